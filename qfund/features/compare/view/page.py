"""The comparison that the address bar names: its report, the job that works on it, or an invitation to start it."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import phrases
from qfund.features.compare import link
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view import choices, running, sections
from qfund.ui import folding, progress, services
from qfund.ui.states import empty, failed, literal, told

_BEFORE = "shown_before"  # the comparison that was last seen with a report, to look at while another one runs


def draw() -> None:
    """The whole view."""
    shown, problems = link.opened()
    choices.follow(shown)
    told(problems)
    said = None
    folding.change()
    if choices.draw():
        folding.close()
        try:
            link.show(_started(choices.asked()))
            st.rerun()
        except QfundError as error:
            said = error
            failed(error)
    _below(shown, said)


def _old() -> None:
    """What is shown below is not what is asked for: it must not look like it."""
    st.html("<style>.st-key-report{opacity:.42;filter:grayscale(.75)}</style>")


def _started(spec: Spec) -> Spec:
    """A comparison that is asked for, unless its report is there already.

    Raises:
        QfundError: the model is not there, or the queue is full.
    """
    if services.look_up(spec).result is None:
        services.jobs().submit(spec)
    return spec


def _below(shown: Spec, said: QfundError | None) -> None:
    """Everything below the choices; ``said`` is what the visitor has just been told."""
    if (given := link.given(shown)) is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            name = literal(given.name)
            st.info(f"Opened from the file {name}: not measured on this server.", icon=":material/draft:")
            st.button("Close it", key="put_away", icon=":material/close:", on_click=link.put_away)
        _follow(shown)
        _shown(shown, services.Answer(shown, given.key, given.report))
        return
    try:
        found = services.look_up(shown)
    except QfundError as error:
        if said is None or str(said) != str(error):
            failed(error, "This comparison cannot be opened.")
        st.button(
            "Show the example instead", icon=":material/home:", key="example", on_click=link.show, args=(EXAMPLE,)
        )
        return
    _follow(shown)
    if found.problem:
        st.warning(literal(found.problem), icon=":material/database_off:")
    if found.result is not None:
        _shown(shown, found)
        return
    if found.job is not None and found.job.active:
        progress.follow(found.key, found.so_far)
        if found.so_far is None:
            _meanwhile(shown)
        else:
            running.draw(found)
        return
    if found.job is not None:
        progress.ended(found.job)
    if found.so_far is not None:
        running.draw(found)
        return
    if found.job is None or found.job.state != "failed":
        _invitation(shown)


def _follow(shown: Spec) -> None:
    """Say so where the choices ask for something else."""
    if choices.differs(shown):
        services.prepare_worker()
        st.caption(":material/edit: These choices are not the comparison shown below. Press Compare to measure them.")
        _old()


def _shown(spec: Spec, found: services.Answer) -> None:
    st.session_state[_BEFORE] = spec
    folding.fold("choices", "conditions")
    sections.draw(found)


def _invitation(shown: Spec) -> None:
    precisions = phrases.together((shown.reference, *shown.candidates))
    empty(
        "Not measured yet",
        f"Press **Compare**: qfund loads {literal(shown.model)} in {precisions}, runs all of them on the "
        "same text, and shows memory, dtypes, and where and how far the outputs differ. "
        "It runs on in the background if you close this page; its address leads back to it.",
        ":material/balance:",
    )


def _meanwhile(shown: Spec) -> None:
    """The report that was there before, so that there is something to read."""
    before = st.session_state.get(_BEFORE)
    if before is None or before == shown:
        st.caption("You can close this page: the link in the address bar leads back to this comparison.")
        return
    try:
        found = services.look_up(before)
    except QfundError:
        return
    if found.result is not None:
        st.caption(":material/history: Meanwhile, the comparison before:")
        _old()
        sections.draw(found)
