"""A comparison at work, or what is left of one that was ended: the report so far, and the way on."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.compare.request.report import Report
from qfund.features.compare.view import sections
from qfund.features.compare.words import rounds as words
from qfund.ui import services
from qfund.ui.services import Answer
from qfund.ui.states import failed, literal


def draw(found: Answer) -> None:
    """The report of what has been read, under what says that it is not all."""
    report: Report = found.so_far
    going_on = found.job is not None and found.job.active
    with st.container(border=True, key="so_far", horizontal=True, vertical_alignment="center"):
        st.markdown(
            f":material/hourglass_top: **{literal(words.so_far(report))}** so far; sharper while you watch."
            if going_on
            else f":material/pause_circle: {literal(words.stopped(report))}",
            width="stretch",
        )
        if not going_on and st.button(
            "Go on", key="go_on", icon=":material/play_arrow:", help="What was read already is not read again."
        ):
            _go_on(found)
    sections.draw(_as_result(found))


def _go_on(found: Answer) -> None:
    try:
        services.jobs().submit(found.request)
    except QfundError as error:
        failed(error)
        return
    st.rerun()


def _as_result(found: Answer) -> Answer:
    """What sections draw; under a key of its own for each round, since pictures are made once for a key."""
    report: Report = found.so_far
    return Answer(found.request, f"{found.key} after {report.input.tokens}", report, found.job, found.problem)
