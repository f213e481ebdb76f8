"""Folders of safetensors whose weights are codes: one file a format, and what those share."""
