"""A module whose import ends in the middle."""

BEFORE = True
_ = 1 / 0
