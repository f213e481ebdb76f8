"""A number with what is needed to trust it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qfund.core.intervals import interval, scatter, widened


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what is needed to trust it. ``se`` is the standard error of a mean over ``n`` positions taken as
    independent (llama.cpp's convention); None where the metric is no mean, or n < 2.

    ``low`` and ``high`` bound the 95 % interval that respects that tokens of one text are not independent: it comes
    from how ``blocks`` blocks of neighbouring chunks scatter (see ``intervals``). None where there are too few of them,
    or the metric is no mean.
    """

    value: float
    se: float | None
    n: int
    unit: str
    low: float | None = None
    high: float | None = None
    blocks: int = 0

    def interval(self, comparisons: int = 1) -> tuple[float, float] | None:
        """The 95 % interval, widened for one of ``comparisons`` looked at (Bonferroni); None where there is none."""
        if self.low is None or self.high is None:
            return None
        return widened(self.value, self.low, self.high, self.blocks, comparisons)


def of_items(values: Sequence[float], unit: str, either: bool = False) -> Estimate:
    """The mean over items none of which says anything of another (prompts, texts, pictures), with its interval over
    them. ``either``: each is 0 or 1, and the interval Wilson's. No standard error where all are equal: their spread
    says nothing."""
    each = np.array(values, dtype=np.float64)
    found = scatter(each, np.ones(len(each)), np.arange(len(each)))
    low, high = interval(found, either) or (None, None)
    if unit == "share" and low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    se = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(set(values)) > 1 else None
    return Estimate(float(each.mean()), se, len(each), unit, low, high, 0 if low is None else found.blocks)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the interval that holds the true one with a probability of at least 95 % (all there is, when fewer
    than six rounds make that impossible)."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and its interval between two order statistics: no assumption about how the values are distributed."""
    ordered = sorted(values)
    cut = _outside(len(ordered))
    return Spread(statistics.median(ordered), ordered[cut], ordered[-1 - cut])


def quickest(seconds: Sequence[float]) -> Spread:
    """Of the faster half of times: what else a machine does can only add to them, and on a shared one it often does."""
    return spread(sorted(seconds)[: (len(seconds) + 1) // 2])


def _outside(count: int) -> int:
    """How many values may be dropped at either end: P(fewer than that many + 1 lie on one side) stays below 2.5 %."""
    tail, cut = 0.0, 0
    for below in range(count // 2):
        tail += math.comb(count, below) / 2**count
        if tail > 0.025:
            break
        cut = below
    return cut
