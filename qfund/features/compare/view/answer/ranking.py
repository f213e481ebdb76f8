"""The candidates in the order in which to try them, as a table of HTML: what each costs, takes and fits, and why it is
not the one to run. Labels are escaped; nothing else in it comes from a checkpoint or a visitor."""

from collections.abc import Mapping, Sequence
from html import escape

from qfund.core.units import bytes_text
from qfund.drawing.palette import precision_color
from qfund.features.compare.request.bits import weight_bits
from qfund.features.compare.request.ranking import GOOD, Ranked, chosen
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.view.interval_strips import STATES, Axis, axes, name, pill, scale, strip
from qfund.features.compare.words.answer import why_not
from qfund.features.compare.words.findings import NAMES, SIGNED, between, number
from qfund.features.compare.words.libraries import latency_phrase
from qfund.features.memory.request.fits import Row


def table(
    report: Report, rows: Sequence[Ranked], reference: Row | None, speeds: Mapping[str, str] | None = None
) -> str:
    """All candidates, and the reference below them; ``speeds`` are those of writing, as far as they are known."""
    on = axes([row.decision for row in rows])
    timed = any(row.result.latency for row in rows)
    sized = reference is not None or any(row.fit for row in rows)
    findings = [finding for row in rows for finding in row.decision.findings]
    damage = [f"{escape(NAMES[metric])}{scale(metric, axis, findings)}" for metric, axis in on.items()]
    titles = ["", "candidate", "verdict", *damage, "memory", *["to spare"] * sized]
    titles += ["bits per weight", *["time ÷ reference's"] * timed, *["writing, × reference's speed"] * bool(speeds)]
    titles.append("why not")
    head = "".join(f"<th scope=col>{title}</th>" for title in titles)
    best = chosen(rows, report.reference)
    body = "".join(_row(report, row, best, on, sized, timed, speeds or {}) for row in rows)
    last = _reference(report.reference, reference, len(on), sized, timed, bool(speeds))
    return f'<table class="qf-ranked"><thead><tr>{head}</tr></thead><tbody>{body}{last}</tbody></table>'


def _row(
    report: Report,
    row: Ranked,
    best: Ranked | None,
    on: dict[str, Axis],
    sized: bool,
    timed: bool,
    speeds: Mapping[str, str],
) -> str:
    found = {finding.metric: finding for finding in row.decision.findings}
    cells = [
        _cell("place", f"{row.place}{'=' if row.shared else ''}" if row.place else "–"),
        f"<th scope=row>{name(row.result.precision)}</th>",
        _cell("state", pill(row.decision.state)),
    ]
    for metric, axis in on.items():
        if metric not in found:
            cells.append(_cell("damage", "–"))
            continue
        finding = found[metric]
        signed = metric in SIGNED
        seen = between(finding, signed)
        sign = f"{STATES[finding.state][0]} " if finding.state not in GOOD else ""
        shown = number(finding, finding.estimate.value, signed)
        value = f"<b>{sign}{shown}</b>{f' <small>{seen}</small>' if seen else ''}"
        track = strip(finding, axis, precision_color(row.result.precision))
        cells.append(_cell("damage", f'<span class="qf-value">{value}</span>{track}', NAMES[metric]))
    cells += _sizes(row.result, row.fit, sized)
    if timed:
        cells.append(_cell("time", escape(latency_phrase(row.result.latency)), "time ÷ reference's"))
    if speeds:
        cells.append(_cell("speed", escape(speeds.get(row.result.precision, "–")), "writing, × reference's speed"))
    cells.append(_cell("why", escape(why_not(row, best, report.reference))))
    mark = ' class="qf-best"' if best is not None and row.place == best.place else ""
    return f"<tr{mark}>{''.join(cells)}</tr>"


def _reference(result: PrecisionResult, fit: Row | None, metrics: int, sized: bool, timed: bool, paced: bool) -> str:
    cells = [_cell("place", ""), f"<th scope=row>{name(result.precision)}</th>", _cell("state", "the reference")]
    cells += [_cell("damage", "")] * metrics + _sizes(result, fit, sized)
    cells += [_cell("time", "1")] * timed + [_cell("speed", "1")] * paced
    return f'<tr class="qf-last">{"".join(cells)}{_cell("why", "")}</tr>'


def _sizes(result: PrecisionResult, fit: Row | None, sized: bool) -> list[str]:
    bits = weight_bits(result)
    cells = [_cell("size", bytes_text(result.memory), "memory")]
    if sized:
        cells.append(_cell("spare", _spare(fit), "to spare"))
    return [*cells, _cell("bits", "–" if bits is None else f"{bits:.3g}", "bits per weight")]


def _spare(fit: Row | None) -> str:
    if fit is None:
        return "–"
    return f"✓ {bytes_text(fit.headroom)}" if fit.fits else f"✕ lacks {bytes_text(-fit.headroom)}"


def _cell(kind: str, content: str, title: str = "") -> str:
    """``title`` is said beside it where there is no room for columns."""
    said = f' data-title="{escape(title)}"' if title else ""
    return f'<td class="qf-{kind}"{said}>{content}</td>'
