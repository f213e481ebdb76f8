"""The number that a finding measured, with the digits that its interval allows."""

from qfund.drawing.numbers import cosine_text, digits_text
from qfund.features.compare.request.decision import Finding

#: What is measured as damage: its name beside an axis, and what a share is a share of.
NAMES = {
    "perplexity_ratio": "perplexity, % worse",
    "top1_agreement": "top token changed, %",
    "kl_mean": "KL divergence, nat",
    "hidden_cosine": "cosine below 1 by",
}
#: State of a decision in a word.
VERDICTS = {
    "indistinguishable": "no difference",
    "within": "within",
    "outside": "outside",
    "inconclusive": "undecided",
    "broken": "not finite",
}
#: Damage that can be negative: noise can make a perplexity better.
SIGNED = frozenset({"perplexity_ratio"})
#: Per cent of a perplexity that nobody asks about: said to be less than that.
LEAST = 0.001


def ends_of(finding: Finding) -> tuple[float, float]:
    """The interval, or the value twice where there is none."""
    estimate = finding.estimate
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return min(low, high), max(low, high)


def times(finding: Finding) -> float:
    """From the unit of the estimate to that of ``NAMES``."""
    return 1.0 if finding.metric in ("kl_mean", "hidden_cosine") else 100.0


def number(finding: Finding, value: float, sign: bool = False) -> str:
    """In the unit of ``NAMES``, with the digits that the interval allows; with a sign where damage can be negative."""
    low, high = ends_of(finding)
    size = times(finding) * max(abs(low), abs(high), abs(finding.estimate.value))
    text = digits_text(times(finding) * value, times(finding) * (high - low), size).replace("-", "−")
    return f"+{text}" if sign and value > 0 and text.strip("0.") else text


def between(finding: Finding, sign: bool = False) -> str:
    """``0.1 to 0.7``; nothing where there is no interval."""
    low, high = ends_of(finding)
    return (
        ""
        if finding.estimate.low is None or low == high
        else f"{number(finding, low, sign)} to {number(finding, high, sign)}"
    )


def unchanged(finding: Finding) -> str:
    """``less than 0.001 %``, where neither a perplexity's damage nor its interval is as much; else nothing."""
    largest = times(finding) * max(map(abs, (*ends_of(finding), finding.estimate.value)))
    return f"less than {LEAST:g} %" if finding.metric in SIGNED and 0 < largest < LEAST else ""


def phrase(finding: Finding) -> str:
    """``0.4 % worse perplexity (0.1 to 0.7 %)``, and no claim that the interval does not bear."""
    low, high = ends_of(finding)
    value, seen = finding.estimate.value, between(finding, sign=low < 0)
    if small := unchanged(finding):
        return f"no change of perplexity: {small}"
    if finding.metric == "perplexity_ratio":
        if finding.estimate.low is not None and low <= 0 <= high:
            return f"no measurable change of perplexity ({seen or number(finding, value)} %)"
        worse = "worse" if value > 0 else "better"
        sizes = f"{number(finding, low)} to {number(finding, high)}" if value > 0 else seen
        return f"{number(finding, abs(value))} % {worse} perplexity" + (f" ({sizes} %)" if seen else "")
    if finding.metric == "top1_agreement":
        return f"{number(finding, value)} % of top outputs changed" + (f" ({seen} %)" if seen else "")
    if finding.metric == "hidden_cosine":
        ends = f" ({cosine_text(1 - high)} to {cosine_text(1 - low)})" if seen else ""
        return f"hidden states at a cosine of {cosine_text(1 - value)}{ends}"
    return f"KL divergence {number(finding, value)} nat" + (f" ({seen})" if seen else "")
