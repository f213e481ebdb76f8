"""The most telling numbers of a candidate."""

from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.drawing.numbers import cosine_text, how_many, metric_text, unanimous, value_text
from qfund.drawing.phrases import plural
from qfund.features.compare.request.listing import Headline
from qfund.features.compare.request.report import PrecisionResult

#: The numbers that stand above a verdict, the first two that a task gives, under names for which a card has room.
HEADLINES = {
    "top1_agreement": "Same top-1",
    "perplexity_ratio": "Perplexity",
    "kl_mean": "KL, mean",
    "hidden_cosine": "Cosine",
    "mean_abs_hidden_diff": "Difference",
}


def headlines(result: PrecisionResult) -> list[tuple[str, str, str]]:
    """Label, value and explanation of the most telling metrics of a candidate."""
    found = [name for name in HEADLINES if name in result.fidelity][:2]
    return [
        (
            HEADLINES[name],
            _headline_value(name, result.fidelity[name].value),
            f"{METRICS[name].label}: {METRICS[name].definition} Here: {_in_full(name, result.fidelity[name])}.",
        )
        for name in found
    ]


def _headline_value(name: str, value: float) -> str:
    return cosine_text(value) if name.endswith("_cosine") else value_text(value, METRICS[name].unit)


def _in_full(name: str, estimate: Estimate) -> str:
    if unanimous(estimate):
        return f"{100 * estimate.value:.0f} %, {how_many(estimate)}"
    unit = METRICS[name].unit.replace("share", "%")
    number = f"{metric_text(name, estimate, digits=2)} {unit}".strip()
    return f"{number} over {plural(estimate.n, 'position')}"


def headline_numbers(candidate: Headline) -> str:
    """``50 % of the memory, same top token 99.02 %, perplexity × 1.0004, KL 1.13e-4 nat``."""
    parts = []
    if candidate.footprint_ratio is not None:
        parts.append(f"{100 * candidate.footprint_ratio:.3g} % of the memory")
    if candidate.top1_agreement is not None:
        parts.append(f"top-1 agreement {value_text(candidate.top1_agreement, 'share')}")
    if candidate.perplexity_ratio is not None:
        parts.append(f"perplexity {value_text(candidate.perplexity_ratio, '×')}")
    if candidate.kl_mean is not None:
        parts.append(f"KL {value_text(candidate.kl_mean, 'nat')}")
    if candidate.hidden_cosine is not None:
        parts.append(f"hidden-state cosine {cosine_text(candidate.hidden_cosine)}")
    return ", ".join(parts)
