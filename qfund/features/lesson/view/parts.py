"""What the nine questions share: evidence that is there or can be measured by a click, and guesses before numbers."""

from typing import Any

import streamlit as st

from qfund.core.errors import QfundError
from qfund.core.request import Request
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson import link, words
from qfund.features.lesson.request import course
from qfund.features.lesson.request.questions import PREDICTIONS
from qfund.features.lesson.words import TRUTHS
from qfund.ui import progress, services
from qfund.ui.services import Answer
from qfund.ui.states import empty, failed, literal


def result(request: Request, button: str, what: str) -> Any | None:
    """What is known, or an invitation to measure it: nothing heavy starts without a click.

    Args:
        button: what the button says.
        what: what it does, in Markdown.
    """
    try:
        answer = services.look_up(request)
    except QfundError as error:
        failed(error)
        return None
    if answer.problem:
        st.warning(literal(answer.problem), icon=":material/database_off:")
    if answer.result is not None:
        return answer.result
    if answer.job is not None and answer.job.active:
        progress.follow(answer.key)
        return None
    if answer.job is not None:
        progress.ended(answer.job)
    _invite(request, button, what)
    return None


def planned(request: Request) -> Any | None:
    """As ``result``, for a plan: it takes a second and reads no weights, so opening a link may start it."""
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


def compared(spec: Spec, button: str, what: str, *, in_numbers: bool = False) -> Answer | None:
    """As ``result``, for a comparison; ``in_numbers`` where no tokens and tensors of it are shown."""
    try:
        found = services.look_up(spec, whole=not in_numbers)
    except QfundError as error:
        failed(error)
        return None
    if found.problem:
        st.warning(literal(found.problem), icon=":material/database_off:")
    if found.result is not None:
        return found
    if found.job is not None and found.job.active:
        progress.follow(found.key)
        return None
    if found.job is not None:
        progress.ended(found.job)
    _invite(spec, button, what)
    return None


def _invite(request: Request, button: str, what: str) -> None:
    empty("Not measured yet", what, ":material/science:")
    if st.button(button, type="primary", icon=":material/play_arrow:", key=f"measure_{button}"):
        try:
            services.jobs().submit(request)
        except QfundError as error:
            failed(error)
            return
        st.rerun()


def predict(name: str, measured: Any) -> bool:
    """Ask for a guess, and tell what was measured once there is one; whether the numbers may be shown."""
    prediction, truth = PREDICTIONS[name], TRUTHS[name](measured)
    if truth is None:
        return True
    show_me = len(prediction.options)
    with st.container(border=True, gap="small"):
        st.markdown(f":material/psychology: **Predict:** {literal(prediction.question)}")
        guess = st.pills(
            prediction.question,
            range(show_me + 1),
            format_func=lambda option: prediction.options[option] if option < show_me else "just show me",
            key=f"guess_{name}",
            label_visibility="collapsed",
            persist_state="session",
        )
        link.guess(name, guess)
        if guess is None:
            return False
        said = literal(truth.said)
        if guess == truth.option:
            st.success(f"**Right.** {said}", icon=":material/check_circle:")
        elif guess == show_me:
            st.info(said, icon=":material/visibility:")
        else:
            guessed = literal(prediction.options[guess])
            st.info(f"You said {guessed}. **Measured:** {said}", icon=":material/lightbulb:")
        for figure in course.published().figures:
            if figure.id == prediction.course:
                st.caption(f":material/history_edu: {literal(words.published(figure))}")
    return True
