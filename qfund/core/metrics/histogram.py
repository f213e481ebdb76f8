"""How differences are distributed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Histogram:
    """|difference| of every logit in bins of equal width in log10: bin i covers 10^(low + i·width) … +width.
    ``zeros`` counts exact equality; values outside the range are in the first or last bin."""

    low: float
    width: float
    counts: tuple[int, ...]
    zeros: int
