"""What is asked of speed, what is answered, and what is worked out of that."""
