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
from qfund.drawing.palette import BAD, GOOD, OPEN, ink, is_variant, precision_color
from qfund.drawing.phrases import label
from qfund.features.compare.request.decision import Decision, Finding
from qfund.features.compare.words.findings import SIGNED, ends_of, number, times
from qfund.features.compare.words.statistics import widened

#: The sheet that everything here needs once on a page.
LOOKS = Path(__file__).parent / "assets/interval_strips.css"
#: State of a decision → sign, words and colour. The sign and the words tell it without the colour, and no precision has
#: these colours: whatever is drawn of a candidate has its own.
STATES = {
    "indistinguishable": ("≈", "indistinguishable", GOOD),
    "within": ("✓", "within your margin", GOOD),
    "outside": ("✕", "outside your margin", BAD),
    "inconclusive": ("?", "inconclusive", OPEN),
    "broken": ("!", "not finite", BAD),
}
#: The axis ends at this many margins; what lies beyond is a bar to its end, with an arrow.
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


def strip(finding: Finding, on: Axis, color: str) -> str:
    """The track of one finding: noise floor, margin, interval and dot."""
    low, high = ends_of(finding)
    signed = finding.metric in SIGNED
    told = f"{number(finding, finding.estimate.value, signed)}; 95 % interval {number(finding, low, signed)} to "
    told += f"{number(finding, high, signed)}; margin {number_text(times(finding) * finding.margin)}"
    parts = []
    if finding.floor is not None:
        told += f"; noise floor {number_text(times(finding) * finding.floor)}"
        begin = on.place(-finding.floor if signed else 0.0)
        wide = f"max(3px,{on.place(finding.floor) - begin:.3f}%)"
        parts.append(f'<i class="qf-floor" style="left:{begin:.3f}%;width:{wide}"></i>')
    parts.append(f'<i class="qf-zero" style="left:{on.place(0):.3f}%"></i>')
    parts.append(f'<i class="qf-margin" style="left:{on.place(finding.margin):.3f}%"></i>')
    first, last = on.place(low), on.place(high)
    if low > on.high:  # the worst must not look like nothing
        zero = on.place(0)
        style = f"left:{zero:.3f}%;width:{100 - zero:.3f}%;background:{color}"
        parts.append(f'<i class="qf-far" style="{style}"></i><b class="qf-beyond" style="color:{color}">▸</b>')
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


def scale(metric: str, on: Axis, findings: Sequence[Finding]) -> str:
    """The axis's numbers: no damage, the margin and the end, in the unit of ``NAMES``."""
    unit = max(map(times, (finding for finding in findings if finding.metric == metric)))
    at = {on.place(value): number_text(unit * value) for value in (0.0, on.high / _REACH, on.high)}
    marks = "".join(f'<i style="left:{place:.3f}%">{text}</i>' for place, text in at.items())
    return f'<span class="qf-scale" aria-hidden="true">{marks}</span>'


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


def key(with_floor: bool, candidates: int) -> str:
    """What the marks mean."""
    marks = {"dot": f"measured, with its 95 % interval{widened(candidates)}", "margin": "your margin"}
    marks |= {"floor": "noise floor"} if with_floor else {}
    spans = (f'<span><i class="k-{mark}"></i>{says}</span>' for mark, says in marks.items())
    return f'<div class="qf-key">{"".join(spans)}</div>'
