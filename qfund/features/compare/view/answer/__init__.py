"""The answer: what to run, on what, and why not the others."""
