"""What is true of a norm, whatever is played."""
