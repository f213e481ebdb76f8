"""Weights and cache under one budget: what each pair takes at a context, and what it costs the outputs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qfund.core.estimate import Estimate
from qfund.features.compare.request.report import Report, measured
from qfund.features.memory.request.fits import Row


@dataclass(frozen=True, slots=True)
class Pair:
    """A precision of the weights and one of the cache.

    Attributes:
        candidate: its name in the report, or the reference's.
        weights, cache: bytes, the cache's of all sequences at the context that ``Row`` was worked out for.
        total: what running takes with activations and runtime: an estimate.
        fits: whether that is within the budget.
        kl: mean KL(reference ‖ pair) in nat; None of the reference, of which it is 0.
        frontier: no other pair takes as few bytes of weights and cache and is as close to the reference.
    """

    candidate: str
    weights: int
    cache: int
    total: int
    fits: bool
    kl: Estimate | None
    frontier: bool = False

    @property
    def bytes(self) -> int:
        return self.weights + self.cache

    @property
    def distance(self) -> float:
        return 0.0 if self.kl is None else self.kl.value


def pairs(report: Report, rows: Mapping[str, Row]) -> tuple[Pair, ...]:
    """Of the report's candidates and its reference, the smallest first; those that were not finite everywhere, or of
    which there is no row, are left out."""
    found = [
        (row.weights.bytes, row.kv_cache.bytes, row, result)
        for result in measured(report)
        if (row := rows.get(result.precision)) is not None
        and (result is report.reference or "kl_mean" in result.fidelity)
        and not result.nonfinite_positions
    ]
    made, closest = list[Pair](), math.inf
    kl = {result.precision: result.fidelity.get("kl_mean") for *_, result in found}
    kl[report.reference.precision] = None
    ordered = sorted(found, key=lambda part: (part[0] + part[1], value(kl[part[3].precision])))
    for weights, cache, row, result in ordered:
        estimate = kl[result.precision]
        made.append(
            Pair(result.precision, weights, cache, row.total.bytes, row.fits, estimate, value(estimate) < closest)
        )
        closest = min(closest, value(estimate))
    return tuple(made)


def value(kl: Estimate | None) -> float:
    return 0.0 if kl is None else kl.value


def least(found: Sequence[Pair]) -> Pair | None:
    """The pair that fits and is closest to the reference, of equal ones the smaller; None where none fits."""
    return min((pair for pair in found if pair.fits), key=lambda pair: (pair.distance, pair.bytes), default=None)
