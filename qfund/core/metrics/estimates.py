"""Positions → every metric of the table, percentiles, and buckets by the reference's confidence."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qfund.core.estimate import Estimate
from qfund.core.intervals import Index, Vector
from qfund.core.metrics.positions import Positions, Texts
from qfund.core.metrics.table import METRICS, PERPLEXITY, metric

#: The shares at which distributions are told: llama.cpp's, from the smallest to the largest value.
PERCENTILES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Positions at which the reference's largest probability lies in [low, high), the last one with its end."""

    low: float
    high: float
    estimates: dict[str, Estimate]


def perplexity_of(nll: Vector) -> Estimate:
    """exp(mean NLL) of one text, with its standard error by the delta method: PPL · σ(mean NLL). Infinite beyond
    floats."""
    positions = Positions(nll_candidate=nll)
    return PERPLEXITY.of(positions, "", Texts(positions))


def estimates(positions: Positions, texts: Sequence[int] = ()) -> dict[str, Estimate]:
    """Every metric that these positions can give, by name, in the table's order.

    One that leaves the range of a float (the perplexity of a model that is broken altogether, the SQNR of equal
    outputs) is not reported. ``texts`` is the text of each chunk, where there are several.
    """
    return _estimates(positions, Texts(positions, texts), METRICS)


def _estimates(positions: Positions, texts: Texts, names: Iterable[str]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for row in map(metric, names):
        vectors = [getattr(positions, field) for field in row.needs]
        if all(vector is not None and len(vector) for vector in vectors):
            estimate = row.statistic.of(positions, row.unit, texts)
            if math.isfinite(estimate.value):
                found[row.name] = estimate
    return found


def percentiles(positions: Positions) -> dict[str, tuple[float, ...]]:
    """KL in both directions and Δp at ``PERCENTILES``, by the vector's name; only those that there are."""
    found = {}
    for field in ("kl", "kl_reverse", "delta_p"):
        values = getattr(positions, field)
        if values is not None and len(values):
            found[field] = tuple(np.quantile(values, PERCENTILES).tolist())
    return found


#: The reference's largest probability, where one bucket ends and the next begins.
CONFIDENCES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
#: What is told of each bucket.
BUCKETED = ("kl_mean", "top1_agreement", "perplexity_ratio")


def buckets(positions: Positions, texts: Sequence[int] = ()) -> tuple[Bucket, ...]:
    """Positions by the reference's confidence, since means are dominated by those where it is undecided; none where
    outputs are no distributions. A bucket without positions has no estimates."""
    if positions.confidence is None or not len(positions.confidence):
        return ()
    if not texts:  # the blocks of all positions, also where a bucket does not reach the last one
        texts = Texts(positions).of_chunk.tolist()
    found = []
    where = _bucket_of(positions.confidence)
    scored = _bucket_of(_confidence_scored(positions))
    for number, (low, high) in enumerate(pairwise(CONFIDENCES)):
        inside = _chosen(positions, where == number, scored == number)
        found.append(Bucket(low, high, _estimates(inside, Texts(inside, texts), BUCKETED)))
    return tuple(found)


def _bucket_of(confidence: Vector) -> Index:
    # A largest probability may come out a rounding above 1.
    return np.searchsorted(CONFIDENCES[1:-1], confidence, side="right")


def _confidence_scored(positions: Positions) -> Vector:
    """[m]; empty where it is not known, so that no perplexity is told."""
    assert positions.confidence is not None
    if positions.confidence_scored is not None:
        return positions.confidence_scored
    nll = positions.nll_candidate
    return positions.confidence if nll is not None and len(nll) == len(positions.confidence) else np.empty(0)


def _chosen(positions: Positions, where: NDArray[np.bool_], scored: NDArray[np.bool_]) -> Positions:
    """What the buckets tell, at some positions only."""

    def at(values: Vector | None, mask: NDArray[np.bool_]) -> Vector | None:
        return None if values is None or len(values) != len(mask) else values[mask]

    return Positions(
        kl=at(positions.kl, where),
        same_top1=at(positions.same_top1, where),
        chunk=at(positions.chunk, where),
        nll_reference=at(positions.nll_reference, scored),
        nll_candidate=at(positions.nll_candidate, scored),
        chunk_scored=at(positions.chunk_scored, scored),
    )
