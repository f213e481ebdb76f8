"""The decision about each candidate drawn as HTML: for each metric a dot and its 95 % interval on one axis for all
candidates, with the margin as a line and the noise floor as a band. Pure functions of ``request.decision``'s decisions.

HTML, since it takes the width that there is, the page's own colours in the light and in the dark, and draws at once.
Nothing in it comes from a checkpoint or a visitor; labels are escaped all the same. ``interval_strips.css`` has the
looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from qfund.core.units import number_text
from qfund.drawing.numbers import digits_text
from qfund.drawing.palette import PALETTE, ink, is_variant, precision_color
from qfund.drawing.phrases import label
from qfund.features.compare.request.decision import Decision, Finding
from qfund.features.compare.words.statistics import widened

#: The sheet that everything here needs once on a page.
LOOKS = Path(__file__).parent / "assets/interval_strips.css"
#: State of a decision → sign, words and colour. The sign and the words tell it without the colour.
STATES = {
    "indistinguishable": ("≈", "indistinguishable", PALETTE[2]),
    "within": ("✓", "within your margin", PALETTE[0]),
    "outside": ("✕", "outside your margin", PALETTE[1]),
    "inconclusive": ("?", "inconclusive", PALETTE[4]),
    "broken": ("!", "not finite", PALETTE[6]),
}
#: What is measured as damage: its name beside an axis, and what a share is a share of.
NAMES = {
    "perplexity_ratio": "perplexity, % worse",
    "top1_agreement": "top token changed, %",
    "kl_mean": "KL divergence, nat",
    "hidden_cosine": "cosine below 1 by",
}
#: Damage that can be negative: noise can make a perplexity better.
SIGNED = frozenset({"perplexity_ratio"})
#: The axis ends at this many margins; what lies beyond is an arrow at its end.
_REACH = 2.0


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``, in the unit of a finding's estimate."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value stands, in per cent of the width; beyond the ends at the ends."""
        share = (value - self.low) / (self.high - self.low)
        return 100 * min(1.0, max(0.0, share))


def axis(findings: Sequence[Finding], signed: bool) -> Axis:
    """One for all candidates: the margin always stands at the same place, and so does no damage; below that is room
    where damage can be ``signed``. Without a margin (it is 0) the widest interval takes the width."""
    margin = max(finding.margin for finding in findings)
    ends = [abs(end) for finding in findings for end in ends_of(finding)]
    reach = _REACH * margin if margin > 0 else 1.1 * max(*ends, 1e-12)
    return Axis(-reach / 4 if signed else 0.0, reach)


def ends_of(finding: Finding) -> tuple[float, float]:
    """The interval, or the value twice where there is none."""
    estimate = finding.estimate
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return min(low, high), max(low, high)


def _times(finding: Finding) -> float:
    return 1.0 if finding.metric in ("kl_mean", "hidden_cosine") else 100.0


def number(finding: Finding, value: float, sign: bool = False) -> str:
    """In the unit of ``NAMES``, with the digits that the interval allows; with a sign where damage can be negative."""
    times = _times(finding)
    low, high = ends_of(finding)
    size = times * max(abs(low), abs(high), abs(finding.estimate.value))
    text = digits_text(times * value, times * (high - low), size).replace("-", "−")
    return f"+{text}" if sign and value > 0 and text.strip("0.") else text


def strip(finding: Finding, on: Axis, color: str) -> str:
    """The track of one finding: noise floor, margin, interval and dot."""
    low, high = ends_of(finding)
    signed = finding.metric in SIGNED
    told = f"{number(finding, finding.estimate.value, signed)}; 95 % interval {number(finding, low, signed)} to "
    told += f"{number(finding, high, signed)}; margin {number_text(_times(finding) * finding.margin)}"
    parts = []
    if finding.floor is not None:
        told += f"; noise floor {number_text(_times(finding) * finding.floor)}"
        begin = on.place(-finding.floor if signed else 0.0)
        wide = f"max(3px,{on.place(finding.floor) - begin:.3f}%)"
        parts.append(f'<i class="qf-floor" style="left:{begin:.3f}%;width:{wide}"></i>')
    parts.append(f'<i class="qf-zero" style="left:{on.place(0):.3f}%"></i>')
    parts.append(f'<i class="qf-margin" style="left:{on.place(finding.margin):.3f}%"></i>')
    first, last = on.place(low), on.place(high)
    # An interval that begins beyond the axis is an arrow at its end.
    if low > on.high:
        parts.append(f'<b class="qf-beyond" style="color:{color}">▸</b>')
    else:
        wide = f"max(2px,{last - first:.3f}%)"
        style = f"left:{first:.3f}%;width:{wide};background:{color}"
        parts.append(f'<i class="qf-interval" style="{style}"></i>')
        if on.low <= finding.estimate.value <= on.high:
            dot = on.place(finding.estimate.value)
            parts.append(f'<i class="qf-dot" style="left:{dot:.3f}%;background:{color}"></i>')
        if high > on.high:
            parts.append(f'<b class="qf-beyond" style="color:{color}">▸</b>')
    return (
        f'<span class="qf-track" role="img" aria-label="{escape(told)}" title="{escape(told)}">{"".join(parts)}</span>'
    )


def pill(state: str) -> str:
    """A state as a sign and words in its colour's frame."""
    sign, words, color = STATES[state]
    dot = f'<b style="background:{color};color:{ink(color)}">{sign}</b>'
    return f'<span class="qf-pill" style="border-color:{color}">{dot}{escape(words)}</span>'


def name(precision: str) -> str:
    """A precision's label beside the dot of its colour."""
    color = precision_color(precision)
    fill = "transparent" if is_variant(precision) else color
    dot = f'<span class="qf-own" style="background:{fill};border-color:{color}"></span>'
    return f'<span class="qf-name">{dot}{escape(label(precision))}</span>'


def axes(decisions: Sequence[Decision]) -> dict[str, Axis]:
    """One axis for each metric that any candidate has a finding about; zeros and margins stand below each other."""
    by_metric: dict[str, list[Finding]] = {}
    for decision in decisions:
        for finding in decision.findings:
            by_metric.setdefault(finding.metric, []).append(finding)
    signed = any(ends_of(finding)[0] < 0 for decision in decisions for finding in decision.findings)
    return {metric: axis(findings, signed) for metric, findings in by_metric.items()}


def head(decision: Decision) -> str:
    """The line above a candidate's words: its name and its state."""
    return f'<div class="qf-head">{name(decision.precision)}{pill(decision.state)}</div>'


def strips(decision: Decision, on: dict[str, Axis]) -> str:
    """Each finding of one candidate as a row: what it is of, the track, the numbers."""
    rows = []
    for finding in decision.findings:
        low, high = ends_of(finding)
        signed = finding.metric in SIGNED
        value = number(finding, finding.estimate.value, signed)
        between = f"{number(finding, low, signed)} to {number(finding, high, signed)}"
        exact = finding.estimate.low is None or low == high
        rows.append(
            f'<div class="qf-one"><span class="qf-what">{escape(NAMES.get(finding.metric, finding.metric))}</span>'
            f"{strip(finding, on[finding.metric], STATES[finding.state][2])}"
            f'<span class="qf-value"><b>{value}</b>{"" if exact else f" <small>{between}</small>"}</span></div>'
        )
    return f'<div class="qf-strips">{"".join(rows)}</div>'


def board(decisions: Sequence[Decision], memory: dict[str, str]) -> str:
    """Very many candidates, one line each: name, state, a track for each metric, memory (text by precision)."""
    on = axes(decisions)
    titles = "".join(f"<span>{escape(NAMES.get(metric, metric))}</span>" for metric in on)
    rows = []
    for decision in decisions:
        found = {finding.metric: finding for finding in decision.findings}
        tracks = "".join(
            strip(found[metric], on[metric], STATES[found[metric].state][2]) if metric in found else "<span></span>"
            for metric in on
        )
        rows.append(
            f'<div class="qf-row">{name(decision.precision)}{pill(decision.state)}'
            f'<span class="qf-tracks">{tracks}</span>'
            f'<span class="qf-memory">{escape(memory[decision.precision])}</span></div>'
        )
    head = (
        '<div class="qf-row qf-titles"><span>candidate</span><span></span>'
        f'<span class="qf-tracks">{titles}</span><span class="qf-memory">memory</span></div>'
    )
    return f'<div class="qf-board">{head}{"".join(rows)}</div>'


def key(with_floor: bool, candidates: int) -> str:
    """What the marks mean."""
    marks = {"dot": f"measured, with its 95 % interval{widened(candidates)}", "margin": "your margin"}
    marks |= {"floor": "noise floor"} if with_floor else {}
    spans = (f'<span><i class="k-{mark}"></i>{says}</span>' for mark, says in marks.items())
    return f'<div class="qf-key">{"".join(spans)}</div>'
