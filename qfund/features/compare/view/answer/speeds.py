"""How fast the candidates write: what the page Speed has measured of them on this machine, and the way there."""

from collections.abc import Mapping

import streamlit as st

from qfund.core.errors import QfundError
from qfund.engine import key_of
from qfund.features.compare.request import speeds
from qfund.features.compare.request.report import Report
from qfund.features.speed import words
from qfund.features.speed.link import Asked, to_query
from qfund.features.speed.request.speed import Speed, SpeedRequest
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS
from qfund.ui import services, shell


def known(report: Report) -> Mapping[str, str]:
    """By candidate ``0.69 × (torchao)``; nothing where this machine has timed none of them."""
    if report.model.task != "causal language model" or _as_stored(report):
        return {}
    own = speeds.asked(report.spec)
    for request in dict.fromkeys((own, SpeedRequest(own.model, reference=own.reference, revision=own.revision))):
        try:
            found = _timed(key_of(request), request)
        except QfundError:
            continue
        if found is not None and speeds.here(found, report.reference.precision):
            best = speeds.fastest(found)
            return {
                name: f"{point.decode_ratio.median:.2f} × ({words.name(run)})" for name, (run, point) in best.items()
            }
    return {}


@st.cache_resource(ttl=10, max_entries=64, show_spinner=False)
def _timed(key: str, _request: SpeedRequest) -> Speed | None:
    """What was measured; to find that nothing was takes longer than all else that a page looks up."""
    found: Speed | None = services.look_up(_request).result
    return found


def draw(report: Report) -> None:
    """The way to the page Speed, with the same choices."""
    if report.model.task != "causal language model" or _as_stored(report):
        return
    own = speeds.asked(report.spec)
    asked = Asked(own.model, own.revision, own.reference, own.precisions or Asked().precisions, files=own.files)
    st.page_link(
        shell.page("speed"),
        label="How fast they read and write here: measure it",
        icon=":material/speed:",
        query_params=to_query(asked),
    )


def _as_stored(report: Report) -> bool:
    row = PRECISIONS.get(report.reference.precision)
    return row is None or row.family == STORED
