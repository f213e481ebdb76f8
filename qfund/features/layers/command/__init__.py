"""``qfund layers`` and ``qfund recipe``."""
