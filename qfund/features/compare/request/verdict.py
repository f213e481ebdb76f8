"""The decision about each candidate: whether the damage that was measured lies inside the margin that a person sets.

A candidate is said to be within or outside only where its whole 95 % interval is, widened for how many candidates are
looked at, so that chance alone decides wrongly for at most one report in twenty and metric. What the reference differs
from itself by, run another way, is the floor under which nothing means anything.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from qfund.core.estimate import Estimate
from qfund.core.intervals import MIN_BLOCKS, Scatter, difference, interval
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.chunk_sums import ChunkSums
from qfund.core.metrics.statistics import EXP
from qfund.core.metrics.table import METRICS
from qfund.core.units import number_text
from qfund.drawing.phrases import listed
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.precisions.table import PRECISIONS

#: What a decision can be: the damage is none that could be told from noise; inside the margin; beyond it; not known
#: from this many tokens; not to be asked, since outputs are not finite.
STATES = ("indistinguishable", "within", "outside", "inconclusive", "broken")

#: The run that is no noise: it says what the reference itself rounds away.
EXACT = "fp64"


@dataclass(frozen=True, slots=True)
class Margin:
    """How much damage is accepted: ``perplexity`` worse by this share, this share of most likely ``tokens`` changed, a
    mean ``kl`` (nat). None asks for nothing."""

    perplexity: float | None = 0.01
    tokens: float | None = 0.02
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one candidate beside its margin. ``estimate`` is of the *damage*: the perplexity ratio − 1, the
    share of changed top-1 outputs, the mean KL; its interval is widened for the candidates of the report. ``floor`` is
    the noise's damage, None where it was not measured."""

    metric: str
    estimate: Estimate
    margin: float
    floor: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Decision:
    """``more_tokens`` would decide, beyond those read, if what was seen goes on; None where that cannot be said."""

    precision: str
    state: str
    findings: tuple[Finding, ...]
    more_tokens: int | None
    sentence: str


def decide(report: Report, margin: Margin) -> tuple[Decision, ...]:
    """One decision a candidate, in the report's order."""
    floor = noise_floor(report)
    return tuple(_decision(report, result, margin, floor) for result in report.results)


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


def _damages(fidelity: dict[str, Estimate]) -> dict[str, float]:
    found = {name: METRICS[name].damage(estimate.value) for name, estimate in fidelity.items() if name in METRICS}
    return {name: damage for name, damage in found.items() if damage is not None}


#: The metrics that a margin is set on: its field, the damage in words, and how the damage follows from the metric.
_JUDGED = {"perplexity_ratio": "perplexity", "top1_agreement": "tokens", "kl_mean": "kl"}


def _damage(name: str, estimate: Estimate, candidates: int) -> Estimate:
    """Of a judged metric, signed: below 0 is a perplexity that is better."""
    low, high = estimate.interval(candidates) or (None, None)
    widened = replace(estimate, low=low, high=high)
    if name == "top1_agreement":
        return _mapped(widened, -1, 1)
    return _mapped(widened, 1, -1) if name == "perplexity_ratio" else _mapped(widened, 1, 0)


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
    findings = []
    for name, field in _JUDGED.items():
        allowed: float | None = getattr(margin, field)
        if allowed is None or name not in result.fidelity:
            continue
        damage = _damage(name, result.fidelity[name], len(report.results))
        state = "indistinguishable" if _identical(result) else _state(damage, allowed, floor.get(name))
        findings.append(Finding(name, damage, allowed, floor.get(name), state))
    states = {finding.state for finding in findings}
    if "outside" in states:
        return _told(report, result, "outside", tuple(findings), None)
    if "inconclusive" in states:
        return _told(report, result, "inconclusive", tuple(findings), _more_tokens(report, findings))
    if states <= {"indistinguishable"} and _like_noise(result, floor):
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


def _like_noise(result: PrecisionResult, floor: dict[str, float]) -> bool:
    """Whether the most sensitive metric there is, which sees differences that no margin asks for, shows no more than
    the floor. Without a floor only equality does."""
    if _identical(result):
        return True
    for name in ("kl_mean", "mean_abs_hidden_diff", "mean_abs_logit_diff"):
        if name in result.fidelity:
            found = result.fidelity[name]
            least = found.value if found.low is None else found.low
            return name in floor and least <= floor[name]
    return False


def _more_tokens(report: Report, findings: list[Finding]) -> int | None:
    """How many more would bring every undecided interval to one side of its margin, as errors shrink with √n."""
    facts, more = report.input, 0.0
    for finding in findings:
        damage, margin = finding.estimate, max(finding.margin, finding.floor or 0.0)
        if finding.state != "inconclusive":
            continue
        if damage.low is None or damage.high is None:  # too few chunks
            missing = MIN_BLOCKS * facts.context - facts.tokens
            if damage.blocks or missing <= 0:
                return None
            more = max(more, missing)
            continue
        gap = abs(margin - damage.value)
        if not gap or not facts.tokens:
            return None
        beyond = (damage.high if damage.value < margin else damage.low) - damage.value
        none_seen = damage.unit == "share" and damage.value == 0  # whose bound shrinks with n
        more = max(more, facts.tokens * ((abs(beyond) / gap) ** (1 if none_seen else 2) - 1))
    return _rounded_up(more) if math.isfinite(more) else None


def _rounded_up(count: float) -> int:
    """To two digits: more would say more than is known."""
    unit = int(10 ** max(0, math.floor(math.log10(max(1.0, count))) - 1))
    return max(1, math.ceil(count / unit - 1e-6) * unit)


def _told(
    report: Report, result: PrecisionResult, state: str, findings: tuple[Finding, ...], more: int | None
) -> Decision:
    label, reference = (_label(name) for name in (result.precision, report.reference.precision))
    said = {
        "indistinguishable": f"indistinguishable from {reference}",
        "within": "within your margin",
        "outside": "outside your margin",
        "inconclusive": _more_phrase(more, findings) if findings else "inconclusive",
        "broken": "broken",
    }[state]
    sentence = f"{label} is {said}: {_why(report, result, state, findings)}."
    return Decision(result.precision, state, findings, more, sentence)


def _more_phrase(more: int | None, findings: tuple[Finding, ...]) -> str:
    if more and any(finding.state == "inconclusive" and finding.estimate.low is None for finding in findings):
        return f"inconclusive: about {more:,} more token{'s' * (more != 1)} are needed before anything can be said"
    if more is None:
        return "inconclusive, and no number of tokens is sure to decide"
    if more > _MANY:
        return f"inconclusive, and so near the margin that more than {_MANY:,} more tokens would be needed to decide"
    return f"inconclusive, about {more:,} more token{'s' * (more != 1)} would decide"


_MANY = 100_000_000  # tokens that nobody reads to decide this


def _why(report: Report, result: PrecisionResult, state: str, findings: tuple[Finding, ...]) -> str:
    if state == "broken":
        count = result.nonfinite_positions
        if not count:
            return "nothing could be compared"
        return f"outputs at {count:,} position{'s' * (count != 1)} are not finite (NaN or infinity)"
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
        said += f"; an interval takes {MIN_BLOCKS} chunks or more, and there {_are(report.input.chunks)}"
    return said


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count:,}"


def _phrase(report: Report, finding: Finding) -> str:
    """``perplexity +0.039 % (+0.01 to +0.068 %, margin 1 %)``."""
    damage, margin = finding.estimate, finding.margin
    signed = finding.metric == "perplexity_ratio"
    language = report.input.source != "pictures" or report.tokens is not None
    what = {
        "perplexity_ratio": "perplexity",
        "top1_agreement": "top tokens changed" if language else "top outputs changed",
        "kl_mean": "KL",
    }[finding.metric]
    unit = "%" if damage.unit == "share" else damage.unit
    value = _number(damage.value, damage.unit, signed)
    limit = f"margin {_number(margin, damage.unit, False)} {unit}"
    if damage.low is None or damage.high is None:
        return f"{what} {value} {unit} ({limit})"
    low, high = (_number(end, damage.unit, signed) for end in (damage.low, damage.high))
    return f"{what} {value} {unit} ({low} to {high} {unit}, {limit})"


def _number(value: float, unit: str, signed: bool) -> str:
    scaled = 100 * value if unit == "share" else value
    text = number_text(abs(scaled))
    return ("−" if scaled < 0 else "+" if signed and scaled > 0 else "") + text


def _label(precision: str) -> str:
    return PRECISIONS[precision].label if precision in PRECISIONS else precision


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
    first, second = held[one], held[other]
    if first is None or second is None or first.texts != second.texts:
        return {}
    found: dict[str, Estimate] = {}
    for name, field in _PAIRED.items():
        seen = _difference(first, second, field)
        if seen is not None:
            found[name] = _estimate(seen[0], seen[1], METRICS[name].unit)
            if name == "nll_mean":
                found["perplexity_ratio"] = _exponential(found[name])
    return {name: found[name] for name in METRICS if name in found}


def _difference(first: ChunkSums, second: ChunkSums, field: str) -> tuple[Scatter, int] | None:
    """And how many positions the poorer of the two has."""
    shared = chunk_sums.counts(first, field) * chunk_sums.counts(second, field) != 0
    means = [chunk_sums.mean(sums, field, shared) for sums in (first, second)]
    if means[0] is None or means[1] is None:
        return None
    n = min(int(chunk_sums.counts(sums, field)[shared].sum()) for sums in (first, second))
    return difference(means[0], means[1]), n


def _estimate(seen: Scatter, n: int, unit: str) -> Estimate:
    low, high = interval(seen) or (None, None)
    # A few chunks may agree by chance: their scatter says nothing.
    error = math.sqrt(seen.variance) if seen.blocks >= MIN_BLOCKS else math.inf
    return Estimate(seen.value, error if math.isfinite(error) else None, n, unit, low, high, seen.blocks)


def _exponential(found: Estimate) -> Estimate:
    value = EXP.of(found.value)
    low, high = (None if end is None else EXP.of(end) for end in (found.low, found.high))
    return replace(found, value=value, se=None if found.se is None else value * found.se, unit="×", low=low, high=high)


def below_floor(result: PrecisionResult, name: str, floor: Mapping[str, float]) -> bool:
    """Whether a metric says no more than that the reference was run once more: its interval reaches the ``floor``."""
    estimate = result.fidelity.get(name)
    if estimate is None or name not in floor:
        return False
    ends = [end for end in (estimate.low, estimate.high) if end is not None] or [estimate.value]
    perfect = METRICS[name].perfect
    if perfect is not None and min(ends) <= perfect <= max(ends):
        return True
    return any((far := METRICS[name].damage(end)) is not None and far <= floor[name] for end in ends)
