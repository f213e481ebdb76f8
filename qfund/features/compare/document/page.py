"""A report as one HTML page that opens anywhere: it loads nothing, and reads in light and in dark. And as a notebook
shows it."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


def page(report: Report, margin: Margin, link: str = "") -> bytes:
    """UTF-8. Whatever a report holds stands there as text: it may come from somebody else. ``link`` is the complete one
    to the same on a dashboard, where it is known."""
    told = candidates.verdicts(report)
    every = metrics.metrics_text(report)
    cautions = [caution for each in told for caution in each.cautions]
    return _rendered(
        "page.html",
        **_answer(report, margin),
        few=FEW,
        verdicts=[
            f"{each.sentence} {decision.sentence}" for each, decision in zip(told, decide(report, margin), strict=True)
        ],
        metrics=metrics.metrics_text(report, every=False),
        more=None if every.empty else every,
        nothing=about.nothing_compared(report),
        sure=statistics.how_sure(report),
        footprints=footprints.footprints_text(report),
        notes=[*filter(None, [about.whole_phrase(report)]), *about.notes(report), *cautions],
        command=calls.shell(report.spec, margin),
        link=link,
        query=f"?{urlencode(to_query(report.spec) | margin_to_query(margin, complete=True), doseq=True)}",
    ).encode("utf-8", "replace")


def notebook(report: Report) -> str:
    """The answer, the pictures and the candidates as a piece of HTML, in the colours of what is around it."""
    return _rendered("notebook.html", **_answer(report, Margin()))


def _answer(report: Report, margin: Margin) -> dict[str, Any]:
    """What both begin with."""
    rows = ranked(report, decide(report, margin), {})
    told = candidates.verdicts(report)
    return {
        "title": about.title(report),
        "sentence": answer.sentence(report, rows, Hardware()),
        "alarms": (*candidates.reference_alarms(report), *(alarm for each in told for alarm in each.alarms)),
        "pictures": pictures(report, rows, chosen(rows, report.reference)),
        "rows": rows,
        "ranking": ranking(report, rows),
        "provenance": about.provenance(report),
    }


def _rendered(template: str, **told: Any) -> str:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(template).render(told)
