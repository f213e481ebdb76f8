"""Quantise-dequantise in plain torch, one family a file, and the walk that applies a precision to a model."""
