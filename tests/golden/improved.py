"""What is meant to differ from the record, and why."""

#: Differences that are meant: the case, and why. Its text stands in ``recorded/improved/``, beside the earlier one.
IMPROVED: dict[str, str] = {}
