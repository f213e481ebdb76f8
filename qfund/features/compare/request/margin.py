"""How much damage a person accepts."""

import math
from dataclasses import dataclass

from qfund.core.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Margin:
    """How much damage is accepted: ``perplexity`` worse by this share, this share of most likely ``tokens`` (classes)
    changed, a mean ``kl`` (nat), a ``cosine`` of hidden states that is so far below 1. None asks for nothing."""

    perplexity: float | None = 0.01
    tokens: float | None = 0.02
    kl: float | None = None
    cosine: float | None = 0.01


def checked(margin: Margin) -> Margin:
    """
    Raises:
        InvalidSpec: a part of it is no number from 0 up.
    """
    for name in Margin.__slots__:
        value = getattr(margin, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InvalidSpec(f"The margin's {name} is {value}.", "Give a number from 0 up, or leave it out.")
    return margin
