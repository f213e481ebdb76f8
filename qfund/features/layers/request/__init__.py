"""What is asked of a model's modules, and what is answered."""
