"""A report as one HTML page that opens anywhere: it loads nothing, and reads in light and in dark."""

from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, StrictUndefined

from qfund.drawing.phrases import FEW
from qfund.features.compare.document.pictures import pictures
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.link import margin_to_query, to_query
from qfund.features.compare.request.ranking import chosen, ranked
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import footprints, metrics
from qfund.features.compare.tables.ranking import ranking
from qfund.features.compare.words import answer, calls, candidates, statistics
from qfund.features.compare.words import report as about


def page(report: Report, margin: Margin) -> bytes:
    """UTF-8. Whatever a report holds stands there as text: it may come from somebody else."""
    decisions = decide(report, margin)
    rows = ranked(report, decisions, {})
    best = chosen(rows, report.reference)
    told = candidates.verdicts(report)
    every = metrics.metrics_text(report)
    alarms = (*candidates.reference_alarms(report), *(alarm for each in told for alarm in each.alarms))
    cautions = [caution for each in told for caution in each.cautions]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        (Path(__file__).parent / "page.html").read_text("utf-8")
    )
    return template.render(
        title=about.title(report),
        sentence=answer.sentence(report, rows, Hardware()),
        alarms=alarms,
        pictures=pictures(report, rows, best),
        rows=rows,
        few=FEW,
        ranking=ranking(report, rows),
        verdicts=[f"{each.sentence} {decision.sentence}" for each, decision in zip(told, decisions, strict=True)],
        metrics=metrics.metrics_text(report, every=False),
        more=None if every.empty else every,
        nothing=about.nothing_compared(report),
        sure=statistics.how_sure(report),
        footprints=footprints.footprints_text(report),
        notes=[*filter(None, [about.whole_phrase(report)]), *about.notes(report), *cautions],
        provenance=about.provenance(report),
        command=calls.shell(report.spec, margin),
        query=f"?{urlencode(to_query(report.spec) | margin_to_query(margin, complete=True), doseq=True)}",
    ).encode("utf-8", "replace")
