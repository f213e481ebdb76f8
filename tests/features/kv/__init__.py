"""Tests of the feature ``kv``."""
