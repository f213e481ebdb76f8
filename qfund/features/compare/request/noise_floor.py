"""What the reference differs from itself by, run another way: the floor under which no difference means anything."""

from collections.abc import Mapping

from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.features.compare.request.report import PrecisionResult, Report

#: The run that is no noise: it says what the reference itself rounds away.
EXACT = "fp64"


def noise_floor(report: Report) -> dict[str, float]:
    """By metric, the largest damage (``Metric.damage``) of the reference against itself, over the ways that it was run;
    what float64 says of it is no noise."""
    floor: dict[str, float] = {}
    for run in report.noise:
        if run.name == EXACT:
            continue
        for name, damage in _damages(run.fidelity).items():
            floor[name] = max(damage, floor.get(name, 0.0))
    return floor


def relative_to_floor(report: Report, result: PrecisionResult) -> dict[str, float | None]:
    """By metric, how many times the noise floor's damage a candidate has; None where the floor is 0 or not known."""
    floor = noise_floor(report)
    return {
        name: damage / floor[name] if floor.get(name) else None for name, damage in _damages(result.fidelity).items()
    }


def below_floor(estimate: Estimate, name: str, floor: Mapping[str, float]) -> bool:
    """Whether a metric says no more than that the reference was run once more: all of its interval lies within the
    ``floor``, so that no margin could call it anything else. An interval that only reaches so far says nothing yet."""
    ends = [end for end in (estimate.low, estimate.high) if end is not None] or [estimate.value]
    damages = [METRICS[name].damage(end) for end in ends]
    return name in floor and all(far is not None and far <= floor[name] for far in damages)


def _damages(fidelity: dict[str, Estimate]) -> dict[str, float]:
    found = {name: METRICS[name].damage(estimate.value) for name, estimate in fidelity.items() if name in METRICS}
    return {name: damage for name, damage in found.items() if damage is not None}
