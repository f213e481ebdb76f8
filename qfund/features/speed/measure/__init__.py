"""The measure ``speed``."""
