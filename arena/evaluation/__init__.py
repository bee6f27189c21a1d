"""What is measured: the referee, lower bounds, ascents from noise, and the check of what is stored."""
