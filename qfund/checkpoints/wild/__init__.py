"""Checkpoints that somebody published quantised, read tensor by tensor as the numbers that their codes stand for."""
