"""Tests of the feature ``speed``."""
