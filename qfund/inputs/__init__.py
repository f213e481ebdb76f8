"""What models are given: texts, prompts and pictures, in chunks. No torch."""
