"""The measure ``kv``."""
