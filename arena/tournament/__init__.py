"""What is asked for, what is missing, and the playing of it."""
