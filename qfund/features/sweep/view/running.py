"""Missing comparisons of a list: started as places come free, each with its progress, until somebody leaves."""

from collections.abc import Sequence

import streamlit as st

from qfund.core.errors import QfundError, QueueFull
from qfund.drawing.phrases import plural
from qfund.features.sweep.request.plan import Planned
from qfund.ui import services
from qfund.ui.states import literal

_EVERY = 1.0  # seconds between two looks
_MOST = 12  # jobs that are shown one by one
#: Keys that this session has begun on and keys that it waits for, and by key why one failed.
_BEGUN, _GOING, _FAILED = "sweep_begun", "sweep_going", "sweep_failed"


def draw(missing: Sequence[Planned]) -> None:
    """A button that starts them, or how far they are."""
    state = st.session_state
    keys = {row.key for row in missing}
    for name, why in state.get(_FAILED, {}).items():
        if name in keys:
            row = next(each for each in missing if each.key == name)
            st.error(literal(f"{row.model}: {why}"), icon=":material/error:")
    if state.get(_GOING):
        _follow(tuple(missing))
        return
    if missing and st.button(
        f"Measure {plural(len(missing), 'comparison')}",
        key="sweep_measure",
        icon=":material/play_arrow:",
        help="One after the other, while this page is open; each is kept as soon as it is there.",
    ):
        state[_GOING], state[_BEGUN], state[_FAILED] = True, set(), {}
        st.rerun()


@st.fragment(run_every=_EVERY)
def again() -> None:
    """Headers are being read: look again."""
    if st.session_state.get("sweep_looked"):
        st.session_state["sweep_looked"] = False
        st.rerun()
    st.session_state["sweep_looked"] = True
    st.caption("Reading headers from the Hub …")


@st.fragment(run_every=_EVERY)
def _follow(missing: tuple[Planned, ...]) -> None:
    """Submit what there is a place for, and show what is at work."""
    state, jobs = st.session_state, services.jobs()
    begun: set[str] = state[_BEGUN]
    ended = 0
    rows = []
    full = False
    for row in missing:
        if row.key not in begun and not full and row.item is not None:
            try:
                jobs.submit(row.item.spec)
                begun.add(row.key)
            except QueueFull:
                full = True
            except QfundError as error:
                begun.add(row.key)
                state[_FAILED][row.key] = str(error)
        job = jobs.get(row.key) if row.key in begun else None
        if job is not None and job.active:
            rows.append((row, job))
        elif row.key in begun:
            ended += 1
            if job is not None and job.error is not None:
                state[_FAILED].setdefault(row.key, str(job.error))
    waiting = len(missing) - ended - len(rows)
    if ended == len(missing):
        state[_GOING] = False
        st.rerun()
    if ended != state.get("sweep_ended", 0):
        state["sweep_ended"] = ended
        st.rerun()
    with st.container(border=True, key="sweep_progress"):
        share = (ended + sum(job.share for _, job in rows)) / len(missing)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(min(max(share, 0.0), 1.0), text=f"{len(missing) - ended} to go · {waiting} not begun")
            stop = st.button("Stop", key="sweep_stop", icon=":material/stop:", help="What is done is kept.")
        for row, job in rows[:_MOST]:
            phase = literal(job.phase or "waiting")
            st.caption(f"{literal(row.model)}{f' on {literal(row.name)}' * bool(row.name)}: {phase} · {job.share:.0%}")
    if stop:
        for row, _ in rows:
            jobs.cancel(row.key)
        state[_GOING] = False
        st.rerun()
