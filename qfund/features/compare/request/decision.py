"""The decision about each candidate: whether the damage that was measured lies inside the margin that a person sets.

A candidate is said to be within or outside only where its whole 95 % interval is, widened for how many candidates are
looked at, so that chance alone decides wrongly for at most one report in twenty and metric. What the reference differs
from itself by, run another way, is the floor under which nothing means anything.
"""

import math
from dataclasses import dataclass, replace

from qfund.core.estimate import Estimate
from qfund.core.intervals import MIN_BLOCKS
from qfund.core.units import number_text
from qfund.drawing.numbers import cosine_text
from qfund.drawing.phrases import label, listed, plural, unoriginal
from qfund.features.compare.request.margin import Margin as Margin
from qfund.features.compare.request.noise_floor import noise_floor
from qfund.features.compare.request.report import PrecisionResult, Report, by_chance, predicts_tokens
from qfund.features.compare.request.simultaneous import simultaneous

#: What a decision can be: the damage is none that could be told from noise; inside the margin; beyond it; not known
#: from this many tokens; not to be asked, since outputs are not finite.
STATES = ("indistinguishable", "within", "outside", "inconclusive", "broken")

#: Tokens that nobody reads to decide this.
TOO_MANY = 10_000_000

#: A metric that a margin is set on → the margin's field.
_JUDGED = {"perplexity_ratio": "perplexity", "top1_agreement": "tokens", "kl_mean": "kl", "hidden_cosine": "cosine"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one candidate beside its margin. ``estimate`` is of the *damage*: the perplexity ratio − 1, the
    share of changed top-1 outputs, the mean KL, 1 − the mean cosine; its interval is widened for the candidates of the
    report. ``floor`` is the noise's damage, None where it was not measured."""

    metric: str
    estimate: Estimate
    margin: float
    floor: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Decision:
    """``more_tokens`` would decide, beyond those read for this candidate, if what was seen goes on; None where that
    cannot be said."""

    precision: str
    state: str
    findings: tuple[Finding, ...]
    more_tokens: int | None
    sentence: str


def decide(report: Report, margin: Margin) -> tuple[Decision, ...]:
    """One decision a candidate, in the report's order."""
    floor = noise_floor(report)
    return tuple(_decision(report, result, margin, floor) for result in report.results)


def _damage(name: str, estimate: Estimate) -> Estimate:
    """Of a judged metric, signed: below 0 is a perplexity that is better."""
    if name in ("top1_agreement", "hidden_cosine"):
        return _mapped(estimate, -1, 1)
    return _mapped(estimate, 1, -1) if name == "perplexity_ratio" else _mapped(estimate, 1, 0)


def _mapped(estimate: Estimate, times: int, plus: int) -> Estimate:
    """``times · estimate + plus``; perplexity's damage is a share too."""
    ends = sorted(times * end + plus for end in (estimate.low, estimate.high) if end is not None)
    low, high = ends if len(ends) == 2 else (None, None)
    if estimate.unit == "share":
        low, high = (None if end is None else min(max(end, 0.0), 1.0) for end in (low, high))
    unit = "share" if estimate.unit == "×" else estimate.unit
    return replace(estimate, value=times * estimate.value + plus, unit=unit, low=low, high=high)


def _decision(report: Report, result: PrecisionResult, margin: Margin, floor: dict[str, float]) -> Decision:
    if result.nonfinite_positions or not result.fidelity:
        return _told(report, result, "broken", (), None)
    findings, fidelity = [], simultaneous(report, result)
    for name, field in _JUDGED.items():
        allowed: float | None = getattr(margin, field)
        if allowed is None or name not in fidelity:
            continue
        damage = _damage(name, fidelity[name])
        state = "indistinguishable" if _identical(result) else _state(damage, allowed, floor.get(name))
        findings.append(Finding(name, damage, allowed, floor.get(name), state))
    states = {finding.state for finding in findings}
    if "outside" in states:
        return _told(report, result, "outside", tuple(findings), None)
    if "inconclusive" in states:
        return _told(report, result, "inconclusive", tuple(findings), _more_tokens(report, result, findings))
    if states <= {"indistinguishable"} and _like_noise(result, fidelity, floor):
        return _told(report, result, "indistinguishable", tuple(findings), None)
    return _told(report, result, "within" if findings else "inconclusive", tuple(findings), None)


def _identical(result: PrecisionResult) -> bool:
    """Whether every output that was compared is equal."""
    found = result.fidelity.get("max_abs_logit_diff") or result.fidelity.get("max_abs_hidden_diff")
    return found is not None and found.value == 0


def _state(damage: Estimate, margin: float, floor: float | None) -> str:
    if damage.low is None or damage.high is None:
        return "inconclusive"
    noise = floor or 0.0
    if damage.high <= max(margin, noise):
        # Not more than noise; nor less, where a perplexity is measurably better.
        return "indistinguishable" if damage.low <= noise and damage.high >= -noise else "within"
    return "outside" if damage.low > max(margin, noise) else "inconclusive"


def _like_noise(result: PrecisionResult, fidelity: dict[str, Estimate], floor: dict[str, float]) -> bool:
    """Whether the most sensitive metric there is, which sees differences that no margin asks for, shows no more than
    the floor. Without a floor only equality does."""
    if _identical(result):
        return True
    for name in ("kl_mean", "mean_abs_hidden_diff", "mean_abs_logit_diff"):
        if name in fidelity:
            found = fidelity[name]
            least = found.value if found.low is None else found.low
            return name in floor and least <= floor[name]
    return False


def _more_tokens(report: Report, result: PrecisionResult, findings: list[Finding]) -> int | None:
    """How many more would bring every undecided interval to one side of its margin, as errors shrink with √n."""
    facts, more = report.input, 0.0
    read = facts.tokens if result.tokens is None else result.tokens
    for finding in findings:
        damage, margin = finding.estimate, max(finding.margin, finding.floor or 0.0)
        if finding.state != "inconclusive":
            continue
        if damage.low is None or damage.high is None:  # too few chunks
            missing = MIN_BLOCKS * facts.context - read
            if damage.blocks or missing <= 0:
                return None
            more = max(more, missing)
            continue
        gap = abs(margin - damage.value)
        if not gap or not read:
            return None
        beyond = (damage.high if damage.value < margin else damage.low) - damage.value
        none_seen = damage.unit == "share" and damage.value == 0  # whose bound shrinks with n
        more = max(more, read * ((abs(beyond) / gap) ** (1 if none_seen else 2) - 1))
    return _rounded_up(more) if math.isfinite(more) else None


def _rounded_up(count: float) -> int:
    """To two digits: more would say more than is known."""
    unit = int(10 ** max(0, math.floor(math.log10(max(1.0, count))) - 1))
    return max(1, math.ceil(count / unit - 1e-6) * unit)


def _told(
    report: Report, result: PrecisionResult, state: str, findings: tuple[Finding, ...], more: int | None
) -> Decision:
    candidate, reference = (label(name) for name in (result.precision, report.reference.precision))
    said = {
        "indistinguishable": f"indistinguishable from {reference}",
        "within": "within your margin",
        "outside": "outside your margin",
        "inconclusive": _more_phrase(more, findings) if findings else "inconclusive",
        "broken": "broken",
    }[state]
    chance = f"; {reference} itself predicts no better than chance" if by_chance(report) else ""
    alone = unoriginal(result.precision, report.reference.precision)
    sentence = f"{alone or f'{candidate} is {said}: {_why(report, result, state, findings)}'}{chance}."
    return Decision(result.precision, state, findings, more, sentence)


def _more_phrase(more: int | None, findings: tuple[Finding, ...]) -> str:
    if more and any(finding.state == "inconclusive" and finding.estimate.low is None for finding in findings):
        return f"inconclusive: about {plural(more, 'more token')} are needed before anything can be said"
    if more is None:
        return "inconclusive, and no number of tokens is sure to decide"
    if more > TOO_MANY:
        return f"inconclusive, and so near the margin that more than {TOO_MANY:,} more tokens would be needed to decide"
    return f"inconclusive, about {plural(more, 'more token')} would decide"


def _why(report: Report, result: PrecisionResult, state: str, findings: tuple[Finding, ...]) -> str:
    if state == "broken":
        count = result.nonfinite_positions
        if not count:
            return "nothing could be compared"
        return f"outputs at {plural(count, 'position')} are not finite (NaN or infinity)"
    if _identical(result):
        return "every output is exactly the same"
    if not findings and state == "indistinguishable":
        return "it differs no more than the reference from itself, run another way"
    if not findings:
        return "the margin asks for nothing that these outputs have"
    shown = [finding for finding in findings if state not in ("outside", "inconclusive") or finding.state == state]
    said = listed([_phrase(report, finding) for finding in shown])
    if state == "indistinguishable":
        return f"{said}; no measurable difference"
    if any(finding.estimate.low is None for finding in shown):
        chunks = report.input.chunks
        said += (
            f"; an interval takes {MIN_BLOCKS} chunks or more, and there {'is' if chunks == 1 else 'are'} {chunks:,}"
        )
    return said


#: Per cent. A change of less is none that anybody would act on, unless the margin is as small.
LEAST = 0.01


def _phrase(report: Report, finding: Finding) -> str:
    """``perplexity +0.039 % (+0.01 to +0.068 %, margin 1 %)``."""
    damage, margin = finding.estimate, finding.margin
    signed = finding.metric == "perplexity_ratio"
    if finding.metric == "hidden_cosine":
        return _cosine_phrase(damage, margin)
    language = report.input.source != "pictures" or predicts_tokens(report)
    classes = "classifier" in report.model.task and language
    what = {
        "perplexity_ratio": "perplexity",
        "top1_agreement": f"top {'classes' if classes else 'tokens' if language else 'outputs'} changed",
        "kl_mean": "KL",
    }[finding.metric]
    unit = "%" if damage.unit == "share" else damage.unit
    limit = f"margin {number_text(100 * margin if damage.unit == 'share' else margin)} {unit}"
    least = min(LEAST, 100 * margin) if damage.unit == "share" else 0.0
    tiny = 0 < 100 * abs(damage.value) < least
    value = f"under {number_text(least)}" if tiny else _number(damage.value, damage.unit, signed)
    if damage.low is None or damage.high is None:
        return f"{what} {value} {unit} ({limit})"
    low, high = (
        "0" if 100 * abs(end) < least / 2 else _number(end, damage.unit, signed) for end in (damage.low, damage.high)
    )
    return f"{what} {value} {unit} ({low} to {high} {unit}, {limit})"


def _cosine_phrase(damage: Estimate, margin: float) -> str:
    """``hidden states' cosine 0.998 (0.997 to 0.9985, margin 0.99)``."""
    least = f"margin {number_text(1 - margin)}"
    said = f"hidden states' cosine {cosine_text(1 - damage.value)}"
    if damage.low is None or damage.high is None:
        return f"{said} ({least})"
    return f"{said} ({cosine_text(1 - damage.high)} to {cosine_text(1 - damage.low)}, {least})"


def _number(value: float, unit: str, signed: bool) -> str:
    scaled = 100 * value if unit == "share" else value
    text = number_text(abs(scaled))
    return ("−" if scaled < 0 else "+" if signed and scaled > 0 else "") + text
