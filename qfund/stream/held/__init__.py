"""Models that hold all of their weights while every batch goes through them."""
