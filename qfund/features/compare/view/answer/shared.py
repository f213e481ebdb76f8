"""What a chat shows for a link to a comparison that is there: its title, the answer, and a picture of both."""

from collections.abc import Mapping
from functools import partial

from qfund.core.errors import QfundError
from qfund.core.feature import Shared, lazily
from qfund.features.compare.document.pictures import pictures
from qfund.features.compare.request.decision import decide
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.link import QUERY_NAMES, from_query, margin_from_query
from qfund.features.compare.request.ranking import chosen, ranked
from qfund.features.compare.request.report import Report
from qfund.features.compare.words import answer
from qfund.features.compare.words.report import title
from qfund.ui import services


def shared(query: Mapping[str, list[str]]) -> Shared | None:
    """Nothing of what is not measured yet, or not complete; whether it fits is left to the page."""
    if not {"v", "model", "p"} <= query.keys():
        return None
    spec, _ = from_query({name: values for name, values in query.items() if name in QUERY_NAMES}, EXAMPLE)
    try:
        report: Report | None = services.look_up(spec).result
    except QfundError:
        return None
    if report is None:
        return None
    rows = ranked(report, decide(report, margin_from_query(dict(query))[0]), {})
    said = title(report), answer.sentence(report, rows, Hardware())
    picture = pictures(report, rows, chosen(rows, report.reference))[0]
    return Shared(*said, partial(lazily("qfund.features.compare.document.share:share"), *said, picture))
