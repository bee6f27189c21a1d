"""What was played: the tables, and the queries over them."""
