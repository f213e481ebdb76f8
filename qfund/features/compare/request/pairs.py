"""Two candidates compared with each other, on the same tokens."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qfund.core.estimate import Estimate
from qfund.core.intervals import MIN_BLOCKS, Dependence, Scatter, Vector, difference, interval
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.chunk_sums import ChunkSums
from qfund.core.metrics.statistics import EXP, Mean
from qfund.core.metrics.table import METRICS
from qfund.features.compare.request.report import Report

#: What two candidates are compared in: the metric, and the vector whose sums it is the mean of.
_PAIRED = {
    "mean_abs_logit_diff": "mean_abs",
    "logit_cosine": "logit_cosine",
    "kl_mean": "kl",
    "kl_reverse_mean": "kl_reverse",
    "top1_agreement": "same_top1",
    "top_depth": "top_agreed",
    "delta_p_mean": "delta_p",
    "nll_mean": "nll_candidate",
    "mean_abs_hidden_diff": "hidden_mean_abs",
    "hidden_cosine": "hidden_cosine",
}


def paired(report: Report, one: str, other: str) -> dict[str, Estimate]:
    """Two candidates on the same tokens: by metric, ``one`` − ``other`` with the interval of the difference, in which
    what moves both does not count. ``perplexity_ratio`` is the first's perplexity over the second's.

    ``se`` is the standard error from the scatter of blocks of chunks, not of positions taken as independent; None where
    the blocks are too few for an interval. Empty where a candidate has no sums by chunk.
    """
    held = {result.precision: result.chunks for result in report.results}
    return of(held[one], held[other])


def of(first: ChunkSums | None, second: ChunkSums | None) -> dict[str, Estimate]:
    """As ``paired``, of the sums by chunk alone."""
    if first is None or second is None or first.texts != second.texts:
        return {}
    found: dict[str, Estimate] = {}
    for name, field in _PAIRED.items():
        seen = _difference(first, second, field, _memory(name))
        if seen is not None:
            found[name] = _estimate(seen[0], seen[1], METRICS[name].unit)
            if name == "nll_mean":
                found["perplexity_ratio"] = _exponential(found[name])
    return {name: found[name] for name in METRICS if name in found}


def _memory(name: str) -> Dependence:
    """How the difference is assumed to correlate from chunk to chunk: of two NLLs, what a text is like cancels."""
    statistic = METRICS["ln_perplexity_ratio" if name == "nll_mean" else name].statistic
    assert isinstance(statistic, Mean)
    return statistic.memory


def _difference(first: ChunkSums, second: ChunkSums, field: str, memory: Dependence) -> tuple[Scatter, int] | None:
    """And how many positions the poorer of the two has."""
    shared = _shared(chunk_sums.counts(first, field), chunk_sums.counts(second, field))
    means = [chunk_sums.mean(sums, field, shared, memory) for sums in (first, second)]
    if means[0] is None or means[1] is None:
        return None
    n = min(int(chunk_sums.counts(sums, field)[shared].sum()) for sums in (first, second))
    return difference(means[0], means[1]), n


def _shared(first: Vector, second: Vector) -> NDArray[np.bool_]:
    """[blocks] of which both have read all: where one was decided early, its last may have been cut."""
    both: NDArray[np.bool_] = (first != 0) & (second != 0)
    if both.any() and np.count_nonzero(first) != np.count_nonzero(second):
        last = int(np.flatnonzero(both)[-1])
        both[last] = first[last] == second[last]
    return both


def _estimate(seen: Scatter, n: int, unit: str) -> Estimate:
    low, high = interval(seen) or (None, None)
    # A few chunks may agree by chance: their scatter says nothing.
    error = math.sqrt(seen.variance) if seen.blocks >= MIN_BLOCKS else math.inf
    return Estimate(seen.value, error if math.isfinite(error) else None, n, unit, low, high, seen.blocks)


def _exponential(found: Estimate) -> Estimate:
    value = EXP.of(found.value)
    low, high = (None if end is None else EXP.of(end) for end in (found.low, found.high))
    return replace(found, value=value, se=None if found.se is None else value * found.se, unit="×", low=low, high=high)
