"""Whether what embeddings and classes lost stays within the margin that a person sets, and how sure that is.

Texts (or pictures) are taken as independent. As in a comparison, a candidate is within or outside only where its whole
95 % interval is, widened for how many candidates are looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qfund.core.estimate import Estimate, of_items
from qfund.core.intervals import MIN_BLOCKS
from qfund.core.units import number_text
from qfund.drawing.numbers import cosine_text
from qfund.drawing.phrases import label, listed, unoriginal
from qfund.features.outputs.request import embeddings
from qfund.features.outputs.request.classes import SCORE, Classes
from qfund.features.outputs.request.embeddings import Embeddings

COSINE, ORDER, FLIPS, CORRELATION = "cosine", "order", "flips", "correlation"


@dataclass(frozen=True, slots=True)
class Margin:
    """How much is accepted: a mean ``cosine`` so far below 1; this share of pairs of neighbours in another ``order``,
    every text as the query in turn; this share of ``flips``, items that are given another class; this much less of
    Spearman's ``correlation`` with the scores of pairs."""

    cosine: float = 0.01
    order: float = 0.02
    flips: float = 0.02
    correlation: float = 0.01


MARGIN = Margin()


@dataclass(frozen=True, slots=True)
class Finding:
    """``estimate`` is of the damage: 1 − cosine, or a share."""

    what: str
    estimate: Estimate
    margin: float
    state: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` is one of ``qfund.features.compare.request.decision.STATES``."""

    precision: str
    state: str
    findings: tuple[Finding, ...]
    sentence: str


def verdict(found: Embeddings | Classes, name: str, margin: Margin) -> Verdict:
    """Of the candidate of that name."""
    several = len(found.request.precisions)
    if isinstance(found, Classes):
        if found.reading == SCORE:
            return _said(found, name, "inconclusive", (), "a score has no classes to flip")
        items = [item for item in found.counted if item.values[name]]
        whole = bool(items) and len(items) == len(found.items)
        flips = [float(item.flipped(name, found.request.reference)) for item in items]
        measured = {FLIPS: flips}
        same = not any(item.moved.get(name, 1.0) for item in items)
    else:
        cosines = found.candidates[name].cosine
        whole = None not in cosines
        measured = {COSINE: [1 - value for value in cosines if value is not None]}
        measured[ORDER] = embeddings.reordered(found, name)
        same = found.candidates[name].similarity == found.reference.similarity
        same = same and max(measured[COSINE], default=1.0) < 1e-12
    if not whole:
        return _said(found, name, "broken", (), "some outputs are not finite (NaN or infinity)")
    if same:
        return _said(found, name, "indistinguishable", (), "every output is exactly the same")
    findings = tuple(
        _finding(what, values, getattr(margin, what), several) for what, values in measured.items() if values
    )
    if isinstance(found, Embeddings) and (change := found.candidates[name].correlation_change) is not None:
        findings = (*findings, _judged(CORRELATION, _loss(change, several), margin.correlation))
    states = [finding.state for finding in findings]
    state = next((state for state in ("outside", "inconclusive") if state in states), "within")
    shown = [finding for finding in findings if state == "within" or finding.state == state]
    why = listed([_phrase(finding) for finding in shown])
    count = shown[0].estimate.n
    if shown[0].estimate.low is None:
        why += f"; an interval takes {MIN_BLOCKS} or more, and there are {count}"
    if state == "inconclusive" and (needed := _needed(shown)):
        things = "pairs" if shown[0].what == CORRELATION else "inputs"
        why += f"; about {needed:,} {things} would decide"
    return _said(found, name, state, findings, why)


def _needed(findings: Sequence[Finding]) -> int | None:
    """How many inputs would bring every undecided interval to one side of its margin, as errors shrink with √n, and a
    bound on what was never seen with n; None where that is in no reach."""
    needed = 0.0
    for finding in findings:
        found, margin = finding.estimate, finding.margin
        never = finding.what == FLIPS and found.value == 0
        if found.low is None or found.high is None:
            needed = max(needed, -math.log(0.025) / margin if never and margin else MIN_BLOCKS)
        elif (gap := abs(margin - found.value)) > 0:
            beyond = (found.high if found.value < margin else found.low) - found.value
            needed = max(needed, found.n * (abs(beyond) / gap) ** (1 if never else 2))
    return None if not 1 <= needed <= 100_000 else math.ceil(float(f"{needed:.1e}"))


def _finding(what: str, values: Sequence[float], margin: float, candidates: int) -> Finding:
    return _judged(what, _estimate(values, what == FLIPS, candidates), margin)


def _loss(change: Estimate, candidates: int) -> Estimate:
    """What is lost where that changed, its interval widened for so many candidates."""
    low, high = change.interval(candidates) or (None, None)
    least, most = (None, None) if low is None or high is None else (-high, -low)
    return Estimate(-change.value, None, change.n, "", least, most, change.blocks)


def _judged(what: str, estimate: Estimate, margin: float) -> Finding:
    if estimate.low is None or estimate.high is None:
        return Finding(what, estimate, margin, "inconclusive")
    state = "within" if estimate.high <= margin else "outside" if estimate.low > margin else "inconclusive"
    return Finding(what, estimate, margin, state)


def _estimate(values: Sequence[float], either: bool, candidates: int) -> Estimate:
    """The mean over texts; its interval widened for so many candidates."""
    mean = of_items(values, "", either)
    low, high = mean.interval(candidates) or (None, None)
    return replace(mean, low=None if low is None else max(low, 0.0), high=high)


def _phrase(finding: Finding) -> str:
    def text(damage: float) -> str:
        if finding.what == CORRELATION:
            return f"{'−' if damage < 0 else ''}{number_text(abs(damage))}"
        return cosine_text(1 - damage) if finding.what == COSINE else f"{number_text(100 * damage)} %"

    what = {
        COSINE: "cosine",
        ORDER: "pairs of neighbours in another order",
        FLIPS: "other classes",
        CORRELATION: f"loss of rank correlation with the scores of {finding.estimate.n:,} pairs",
    }[finding.what]
    found, margin = finding.estimate, f"margin {text(finding.margin)}"
    if found.low is None or found.high is None:
        return f"{what} {text(found.value)} ({margin})"
    low, high = (found.high, found.low) if finding.what == COSINE else (found.low, found.high)
    return f"{what} {text(found.value)} ({text(low)} to {text(high)}, {margin})"


def _said(found: Embeddings | Classes, name: str, state: str, findings: tuple[Finding, ...], why: str) -> Verdict:
    said = {
        "indistinguishable": f"indistinguishable from {label(found.request.reference)}",
        "within": "within your margin",
        "outside": "outside your margin",
    }.get(state, state)
    alone = unoriginal(name, found.request.reference)
    return Verdict(name, state, findings, f"{alone or f'{label(name)} is {said}: {why}'}.")
