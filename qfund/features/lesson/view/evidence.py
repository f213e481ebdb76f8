"""Evidence of the nine questions: what is known, or can be measured by a click."""

from typing import Any

import streamlit as st

from qfund.core.errors import QfundError
from qfund.core.request import Request
from qfund.ui import progress, services
from qfund.ui.services import Answer
from qfund.ui.states import empty, failed, literal


def measured(request: Request, button: str, what: str, *, whole: bool = True) -> Answer | None:
    """What is known, or an invitation to measure it: nothing heavy starts without a click.

    Args:
        button: what the button says.
        what: what it does, in Markdown.
        whole: False where no tokens and tensors of a comparison are shown.
    """
    try:
        answer = services.look_up(request, whole=whole)
    except QfundError as error:
        failed(error)
        return None
    if answer.problem:
        st.warning(literal(answer.problem), icon=":material/database_off:")
    if answer.result is not None:
        return answer
    if answer.job is not None and answer.job.active:
        progress.follow(answer.key)
        return None
    if answer.job is not None:
        progress.ended(answer.job)
    _invite(request, button, what)
    return None


def planned(request: Request) -> Any | None:
    """As ``measured``, for a plan: it takes a second and reads no weights, so opening a link may start it."""
    try:
        answer = services.ask(request)
    except QfundError as error:
        failed(error)
        return None
    if answer.job is not None and answer.job.active:
        progress.follow(answer.key)
    elif answer.result is None and answer.job is not None:
        progress.ended(answer.job)
        if st.button("Try again", icon=":material/refresh:", key=f"again_{answer.key}"):
            services.jobs().submit(request)
            st.rerun()
    return answer.result


def _invite(request: Request, button: str, what: str) -> None:
    empty("Not measured yet", what, ":material/science:")
    if st.button(button, type="primary", icon=":material/play_arrow:", key=f"measure_{button}"):
        try:
            services.jobs().submit(request)
        except QfundError as error:
            failed(error)
            return
        st.rerun()
