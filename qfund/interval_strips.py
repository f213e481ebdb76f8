"""The decision about each candidate drawn as HTML: for each metric a dot and its 95 % interval on one axis for all
candidates, with the margin as a line and the noise floor as a band. Pure functions of ``qfund.verdict``'s decisions.

HTML, since it takes the width that there is, the page's own colours in the light and in the dark, and draws at once.
Nothing in it comes from a checkpoint or a visitor; labels are escaped all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from qfund.fidelity_tables import digits_text
from qfund.figures import PALETTE, is_variant, precision_colour
from qfund.tables import label
from qfund.units import number_text
from qfund.verdict import Decision, Finding

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
    """One for all candidates: the margin always stands at the same place, and so does nothing at all; below that is room
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
    return 1.0 if finding.metric == "kl_mean" else 100.0


def number(finding: Finding, value: float, sign: bool = False) -> str:
    """In the unit of ``NAMES``, with the digits that the interval allows; with a sign where damage can be negative."""
    times = _times(finding)
    low, high = ends_of(finding)
    text = digits_text(times * value, times * (high - low)).replace("-", "−")
    return f"+{text}" if sign and value > 0 and text.strip("0.") else text


def strip(finding: Finding, on: Axis, colour: str) -> str:
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
        parts.append(f'<b class="qf-beyond" style="color:{colour}">▸</b>')
    else:
        parts.append(
            f'<i class="qf-interval" style="left:{first:.3f}%;width:max(2px,{last - first:.3f}%);background:{colour}"></i>'
        )
        if on.low <= finding.estimate.value <= on.high:
            dot = on.place(finding.estimate.value)
            parts.append(f'<i class="qf-dot" style="left:{dot:.3f}%;background:{colour}"></i>')
        if high > on.high:
            parts.append(f'<b class="qf-beyond" style="color:{colour}">▸</b>')
    return (
        f'<span class="qf-track" role="img" aria-label="{escape(told)}" title="{escape(told)}">{"".join(parts)}</span>'
    )


def pill(state: str) -> str:
    """A state as a sign and words in its colour's frame."""
    sign, words, colour = STATES[state]
    return (
        f'<span class="qf-pill" style="border-color:{colour}"><b style="background:{colour}">{sign}</b>'
        f"{escape(words)}</span>"
    )


def name(precision: str) -> str:
    """A precision's label beside the dot of its colour."""
    colour = precision_colour(precision)
    fill = "transparent" if is_variant(precision) else colour
    dot = f'<span class="qf-own" style="background:{fill};border-color:{colour}"></span>'
    return f'<span class="qf-name">{dot}{escape(label(precision))}</span>'


def axes(decisions: Sequence[Decision]) -> dict[str, Axis]:
    """One axis for each metric that any candidate has a finding about; their zeros and margins stand below each other."""
    by_metric: dict[str, list[Finding]] = {}
    for decision in decisions:
        for finding in decision.findings:
            by_metric.setdefault(finding.metric, []).append(finding)
    signed = any(ends_of(finding)[0] < 0 for decision in decisions for finding in decision.findings)
    return {metric: axis(findings, signed) for metric, findings in by_metric.items()}


def head(decision: Decision) -> str:
    """The line above a candidate's words: its name and its state."""
    return f'{STYLE}<div class="qf-head">{name(decision.precision)}{pill(decision.state)}</div>'


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
    return f'{STYLE}<div class="qf-strips">{"".join(rows)}</div>'


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
            f'<span class="qf-tracks">{tracks}</span><span class="qf-memory">{escape(memory[decision.precision])}</span></div>'
        )
    return (
        f'{STYLE}<div class="qf-board"><div class="qf-row qf-titles"><span>candidate</span><span></span>'
        f'<span class="qf-tracks">{titles}</span><span class="qf-memory">memory</span></div>{"".join(rows)}</div>'
    )


KEY = (
    '<div class="qf-key"><span><i class="k-dot"></i>measured, with its 95 % interval</span>'
    '<span><i class="k-margin"></i>your margin</span><span><i class="k-floor"></i>noise floor</span></div>'
)


def key(with_floor: bool) -> str:
    """What the marks mean."""
    shown = KEY if with_floor else KEY.partition('<span><i class="k-floor">')[0] + "</div>"
    return STYLE + shown


#: One sheet for all, in the page's own colours: ``currentColor`` is the theme's text.
STYLE = """<style>
.qf-head{display:flex;flex-wrap:wrap;align-items:center;gap:.35em .9em}
.qf-name{display:inline-flex;align-items:center;gap:.5em;font-weight:650;font-size:1.05em;white-space:nowrap}
.qf-own{width:.72em;height:.72em;box-sizing:border-box;border-radius:50%;border:.15em solid;flex:none}
.qf-pill{display:inline-flex;align-items:center;gap:.45em;border:1px solid;border-radius:99px;padding:.06em .7em .06em .12em;
font-size:.86em;white-space:nowrap;line-height:1.5}
.qf-pill b{display:inline-flex;align-items:center;justify-content:center;width:1.5em;height:1.5em;border-radius:50%;
color:#fff;font-size:.86em;line-height:1}
.qf-strips{display:grid;grid-template-columns:max-content minmax(5rem,1fr) minmax(9.2rem,max-content);
gap:.5rem .9rem;align-items:center;font-size:.86em}
.qf-one{display:contents}
.qf-what{opacity:.72}
.qf-value{font-variant-numeric:tabular-nums;white-space:nowrap}
.qf-value small{opacity:.72;font-size:.92em}
.qf-track{position:relative;display:block;height:1.25rem}
.qf-track::before{content:"";position:absolute;left:0;right:0;top:50%;height:1px;background:currentColor;opacity:.22}
.qf-track>i,.qf-track>b{position:absolute;top:50%}
.qf-floor{height:100%;transform:translateY(-50%);background:currentColor;opacity:.16;border-radius:2px}
.qf-zero{height:55%;width:1px;transform:translateY(-50%);background:currentColor;opacity:.4}
.qf-margin{height:100%;width:0;transform:translate(-50%,-50%);border-left:2px dashed currentColor;opacity:.75}
.qf-interval{height:4px;transform:translateY(-50%);border-radius:2px}
.qf-dot{width:10px;height:10px;border-radius:50%;transform:translate(-50%,-50%)}
.qf-beyond{right:-2px;transform:translateY(-52%);font-size:1.15em;line-height:1}
.qf-key{display:flex;flex-wrap:wrap;gap:.2em 1.3em;font-size:.82em;opacity:.78}
.qf-key span{display:inline-flex;align-items:center;gap:.5em}
.k-dot{width:1.9em;height:4px;border-radius:2px;background:currentColor;position:relative}
.k-dot::after{content:"";position:absolute;left:50%;top:50%;width:9px;height:9px;border-radius:50%;background:currentColor;
transform:translate(-50%,-50%)}
.k-margin{height:1.1em;border-left:2px dashed currentColor}
.k-floor{width:.9em;height:1.1em;background:currentColor;opacity:.25;border-radius:2px}
.qf-board{font-size:.88em;max-height:46rem;overflow-y:auto}
.qf-row{display:grid;grid-template-columns:minmax(8.5rem,12rem) 11.5rem minmax(0,1fr) 4.5rem;gap:0 1rem;align-items:center;
min-height:1.72rem}
.qf-row+.qf-row{border-top:1px solid color-mix(in srgb,currentColor 9%,transparent)}
.qf-row .qf-name{font-weight:550;font-size:1em}
.qf-titles{font-size:.92em;opacity:.78;position:sticky;top:0;z-index:1;backdrop-filter:blur(9px)}
.qf-tracks{display:grid;grid-auto-columns:minmax(0,1fr);grid-auto-flow:column;gap:1.2rem}
.qf-memory{text-align:right;font-variant-numeric:tabular-nums}
@media(max-width:640px){
.qf-strips{grid-template-columns:1fr max-content;gap:.1rem .8rem}
.qf-one{display:grid;grid-template-columns:subgrid;grid-column:1/-1}
.qf-strips .qf-value{grid-column:2;grid-row:1;text-align:right}.qf-strips .qf-track{grid-column:1/-1;margin-bottom:.4rem}
.qf-row{grid-template-columns:1fr max-content;padding:.35rem 0;gap:.1rem .6rem}
.qf-row .qf-tracks{grid-column:1/-1;order:3}.qf-row .qf-memory{display:none}
.qf-titles>span:not(.qf-tracks){display:none}
}
</style>"""
