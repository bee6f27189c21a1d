"""What plugins implement and see."""
