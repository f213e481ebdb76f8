"""Two numbers of one result that say the same thing must be the same: what contradicts itself is not published."""

import math

from qfund.core.errors import EngineError


def must_agree(where: str, one: str, first: float, other: str, second: float, within: float = 0.0) -> None:
    """``within`` is relative; numbers that are not finite say nothing.

    Raises:
        EngineError: they do not agree.
    """
    if not (math.isfinite(first) and math.isfinite(second)):
        return
    if not math.isclose(first, second, rel_tol=within, abs_tol=within):
        raise EngineError(
            f"The result contradicts itself, so it is neither shown nor stored: {where}: {one} {_text(first)}, but "
            f"{other} {_text(second)}.",
            "This is a fault of qfund: please report it, with the name of the model.",
        )


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else repr(value)
