"""What a sweep comes to, in sentences."""

from collections.abc import Sequence

from qfund.core.units import bytes_text
from qfund.drawing.phrases import label, plural
from qfund.features.compare.words.findings import SIGNED, VERDICTS, between, number, unchanged
from qfund.features.compare.words.rounds import rough
from qfund.features.sweep.request.plan import Planned, Total
from qfund.features.sweep.request.ranking import Failed, Line, Pick

#: A metric that a margin is set on → its name in a cell, and the unit of its damage.
_METRICS = {
    "perplexity_ratio": ("perplexity", " %"),
    "top1_agreement": ("top-1 changed", " %"),
    "kl_mean": ("KL", " nat"),
    "hidden_cosine": ("1 − cosine", ""),
}


def headline(picks: Sequence[Pick]) -> str:
    """``4 of 5 models are smaller within your margin, most of all pydoc-llama: INT4, 23 % of FP32's memory.``"""
    good = [pick for pick in picks if pick.line]
    if not picks:
        return "Nothing has been compared yet."
    if not good:
        return f"None of {plural(len(picks), 'model')} has a smaller precision within your margin."
    line = good[0].line
    assert line is not None
    most = ", most of all" if len(good) > 1 else ":"
    share = f"{100 * line.share:.3g} % of {label(line.reference)}'s memory"
    are = "is" if len(good) == 1 else "are"
    return (
        f"{len(good)} of {plural(len(picks), 'model')} {are} smaller within your margin{most} {line.model}"
        f"{':' if len(good) > 1 else ','} {label(line.precision)}, {share}."
    )


def verdict(line: Line) -> str:
    return VERDICTS[line.state]


def damage(line: Line | None) -> str:
    """``perplexity +0.4 % (0.1 to 0.7)``."""
    if line is None or line.finding is None:
        return "–"
    finding = line.finding
    name, unit = _METRICS[finding.metric]
    if small := unchanged(finding):
        return f"{name} {small}"
    signed = finding.metric in SIGNED
    seen = between(finding, signed)
    return f"{name} {number(finding, finding.estimate.value, signed)}{unit}" + (f" ({seen})" if seen else "")


def unit(metric: str) -> str:
    """Of the damage by this metric: ``%``, ``nat`` or nothing."""
    return _METRICS[metric][1].strip()


def why_none(pick: Pick) -> str:
    """Why there is no candidate to name: what comes nearest."""
    if pick.nearest is None:
        return "no smaller candidate was measured"
    return f"{label(pick.nearest.precision)} {verdict(pick.nearest)}: {damage(pick.nearest)}"


def model(name: str, revision: str | None) -> str:
    return f"{name}@{revision}" if revision else name


def planned(found: Total) -> str:
    """``12 comparisons: 5 stored, 6 to measure (about 12 minutes), 1 cannot be done; 3.1 GiB of checkpoints.``"""
    parts = [f"{found.stored:,} stored"] if found.stored else []
    if found.missing:
        known = found.missing - found.unknown
        took = f"about {rough(found.seconds)}" if known else "time not known"
        more = f", {found.unknown} of unknown time besides" if known and found.unknown else ""
        parts.append(f"{found.missing:,} to measure ({took}{more})")
    if found.refused:
        parts.append(f"{found.refused:,} cannot be done")
    count = plural(found.stored + found.missing + found.refused, "comparison")
    size = f"; {bytes_text(found.bytes)} of checkpoints" if found.bytes else ""
    return f"{count}: {', '.join(parts) or 'nothing to do'}{size}."


def takes(line: Planned) -> str:
    """The time of one line of a plan: ``about 20 seconds (a first guess)``."""
    if line.item is None:
        return "cannot be done"
    if line.stored:
        return "stored"
    if line.seconds is None:
        return "time not known"
    return f"about {rough(line.seconds)}{' (a first guess)' * line.first_guess}"


def failures(found: Sequence[Failed]) -> list[str]:
    """A sentence for each comparison that is not there."""
    return [f"{row.model}{f' on {row.name}' * bool(row.name)}: {row.why}" for row in found]


NOTE = (
    "Each line is judged by its own comparison, with 95 % intervals that hold for all of its candidates together. The "
    "smallest of a model is within the margin on every text that it was measured on."
)
