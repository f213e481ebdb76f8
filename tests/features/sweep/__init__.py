"""Tests of the feature ``sweep``."""
