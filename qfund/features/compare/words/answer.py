"""What to run, in one sentence; and why not the others."""

from collections.abc import Sequence

from qfund.core.units import bytes_text
from qfund.drawing.phrases import label, plural, together
from qfund.features.compare.request.decision import TOO_MANY
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.ranking import GOOD, SAME_SIZE, Ranked, chosen, distance, hopeful
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.words.findings import phrase
from qfund.features.memory.request.fits import Row


def sentence(report: Report, rows: Sequence[Ranked], hardware: Hardware, reference: Row | None = None) -> str:
    """``INT4 (rest BF16): 2.9 GiB, fits your RTX 4090 with 19 GiB to spare, 0.4 % worse perplexity (0.1 to 0.7 %).``
    Or why no candidate can be named. ``reference`` is what running the reference takes."""
    if not rows:
        return "None of these precisions could be measured for this model."
    best = chosen(rows, report.reference)
    if best is None:
        return _none(report, rows, hardware, reference)
    others = [row for row in rows if row is not best and row.place == best.place]
    alike = f" {_names(others)} {_are(others)} as small and cannot be told from it." if others else ""
    undecided = [row for row in rows if _smaller_undecided(row, best)]
    rest = f" {_names(undecided)} {_are(undecided)} smaller and not decided yet." if undecided else ""
    size = bytes_text(best.result.memory)
    return f"{', '.join((f'{_name(best)}: {size}', *_fits(best.fit, hardware), damage(best)))}.{alike}{rest}"


def _name(row: Ranked) -> str:
    return label(row.result.precision)


def _names(rows: Sequence[Ranked]) -> str:
    return together(row.result.precision for row in rows)


def _are(rows: Sequence[Ranked]) -> str:
    return "is" if len(rows) == 1 else "are"


def _smaller_undecided(row: Ranked, best: Ranked) -> bool:
    if row.decision.state != "inconclusive" or (row.fit is not None and not row.fit.fits):
        return False
    return row.result.memory < best.result.memory


def _fits(fit: Row | None, hardware: Hardware) -> tuple[str, ...]:
    return () if fit is None else (f"fits {hardware.name} with {bytes_text(fit.headroom)} to spare",)


def damage(row: Ranked) -> str:
    """What a candidate does to the outputs, by the metric that the margin is set on first."""
    decision = row.decision
    if decision.state == "broken":
        count = row.result.nonfinite_positions
        return f"outputs at {plural(count, 'position')} are not finite" if count else "nothing could be compared"
    exact = row.result.fidelity.get("max_abs_logit_diff") or row.result.fidelity.get("max_abs_hidden_diff")
    if exact is not None and exact.value == 0:
        return "exactly the same outputs"
    if not decision.findings:
        return (
            "no measurable difference" if decision.state == "indistinguishable" else "nothing that your margin asks for"
        )
    worst = [found for found in decision.findings if found.state == decision.state] or list(decision.findings)
    return phrase(worst[0] if decision.state not in GOOD else decision.findings[0])


def _none(report: Report, rows: Sequence[Ranked], hardware: Hardware, reference: Row | None) -> str:
    """Why there is nothing to name, and what becomes of the reference itself."""
    name, size = label(report.reference.precision), report.reference.memory
    own = ""
    if reference is not None:
        own = f" {name} itself {_fits(reference, hardware)[0] if reference.fits else _lacks(reference, hardware)}."
    good = [(row, row.fit) for row in rows if row.good and row.fit and not row.fit.fits]
    if any(row.usable for row in rows):
        return f"No candidate within your margin is smaller than {name} ({bytes_text(size)}).{own}"
    if good:
        least, fit = min(good, key=lambda pair: pair[1].total.bytes)
        said = f"Nothing within your margin fits: {_name(least)}, the smallest, {_lacks(fit, hardware)}"
        fitting = next((row for row in rows if row.fit and row.fit.fits), None)
        return f"{said}; {_name(fitting)} would fit, with {damage(fitting)}." if fitting else f"{said}."
    if (smallest := hopeful(rows)) is not None:
        said = f"{_name(smallest)}, {bytes_text(smallest.result.memory)}, {damage(smallest)}"
        return f"Not decided yet: {said}; {_more(smallest, 'about ') or 'no number of tokens is sure to decide'}."
    closest = min((row for row in rows if row.decision.state == "outside"), key=distance, default=None)
    if closest is None:
        return f"No candidate gives finite outputs.{own}"
    return f"No candidate is within your margin: {_name(closest)} has {damage(closest)}.{own}"


def _lacks(fit: Row, hardware: Hardware) -> str:
    return f"lacks {bytes_text(-fit.headroom)} on {hardware.name}"


def _more(row: Ranked, about: str = "") -> str:
    """How many more tokens would decide; nothing where that cannot be said."""
    more = row.decision.more_tokens
    return f"{about}{plural(more, 'more token')} would decide" if more and more <= TOO_MANY else ""


def why_not(row: Ranked, best: Ranked | None, reference: PrecisionResult) -> str:
    """Why a candidate is not the one to run; nothing of that one and of those that share its place."""
    if best is not None and row.place == best.place:
        return ""
    reasons = []
    if row.decision.state == "outside":
        reasons.append(damage(row))
    elif row.decision.state == "inconclusive":
        reasons.append(_more(row) or "not decided")
    elif row.decision.state == "broken":
        reasons.append(damage(row))
    if row.fit is not None and not row.fit.fits:
        reasons.append(f"lacks {bytes_text(-row.fit.headroom)}")
    if not reasons and row.result.memory >= reference.memory:
        reasons.append(f"no smaller than {label(reference.precision)}")
    if not reasons and best is not None:
        larger = row.result.memory / best.result.memory
        if larger <= 1 + SAME_SIZE:
            reasons.append("further from the reference")
        else:
            reasons.append(f"{larger:.2g} × as large" if larger >= 1.05 else "slightly larger")
    return "; ".join(reasons)
