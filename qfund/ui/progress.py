"""A job asked for and under way: phase, share, place in the queue, and a way to end it. It outlives the tab that asked
for it."""

import time
from typing import Any, TypeVar

import streamlit as st

from qfund.core.errors import QfundError
from qfund.core.request import Request
from qfund.drawing.phrases import label
from qfund.engine.job import Job
from qfund.ui import services
from qfund.ui.address import Address
from qfund.ui.services import Answer
from qfund.ui.states import empty, failed, literal

Asked = TypeVar("Asked")
EVERY = 0.5  # seconds between two looks at a job


@st.fragment(run_every=EVERY)
def follow(key: str, so_far: Any = None) -> None:
    """Show the job until it ends, then draw the whole page anew; and when it tells another result than ``so_far``."""
    job = services.jobs().get(key)
    if job is None or not job.active or (job.so_far is not None and job.so_far is not so_far):
        st.rerun()
    with st.container(border=True, key="progress"), st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(max(job.share, 0.0), 1.0), text=_phase(job))
        _leave(job)
    if job.texts:
        with st.grid(min(len(job.texts), 3), min_column_width=280):
            for name, text in job.texts.items():
                with st.container(border=True, gap="xsmall", height="stretch"):
                    st.markdown(f"**{literal(label(name))}**")
                    st.text(text)


def _leave(job: Job) -> None:
    """A way out: it ends the job where nobody else waits for it."""
    keeps = " What is known by then is kept." if job.so_far is not None else ""
    if job.abandoned:
        st.caption("You have left this job; it goes on for others.")
    elif job.others:
        label, icon, told = "Leave", ":material/logout:", "Others wait for this job too: it goes on for them."
    elif keeps:
        label, icon, told = "Stop", ":material/stop:", f"Ends the job.{keeps}"
    else:
        label, icon, told = "Cancel", ":material/close:", "Ends the job."
    if not job.abandoned and st.button(label, key=f"cancel_{job.key}", icon=icon, help=told):
        services.jobs().cancel(job.key)
        st.rerun()


def _phase(job: Job) -> str:
    again = f"{job.again} · " if job.attempts > 1 else ""
    if job.state == "queued":
        wait = f" · its turn in about {_rough(job.wait)}" if job.wait else ""
        place = f": number {job.position} in the queue" if job.position else ""
        return f"{again}Waiting{place}{wait}"
    phase = literal(job.phase) or "Starting"
    left = job.left(time.time())
    return f"{again}{phase[:1].upper()}{phase[1:]} · {job.share:.0%}" + (f" · {_rough(left)} left" if left else "")


def _rough(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def ended(job: Job) -> None:
    """Why a job gave no report."""
    if job.error is None:
        return
    if job.state == "cancelled":
        st.info(f"{literal(job.error.message)} {literal(job.error.remedy)}", icon=":material/cancel:")
    else:
        failed(job.error, "This comparison failed.")


def at_once(request: Request) -> Any | None:
    """What files alone tell; None after it has been said why there is nothing, or how far reading them is."""
    try:
        found = services.at_once(request)
    except QfundError as error:
        failed(error, "This model cannot be read.")
        return None
    if isinstance(found, Job):
        follow(found.key)
        return None
    return found


def press(address: Address[Asked], asked: Asked, request: Request) -> None:
    """Ask for it, unless it is there, and draw the page anew; a refusal is told."""
    try:
        if services.look_up(request).result is None:
            services.jobs().submit(request)
        address.pressed(asked)
    except QfundError as error:
        failed(error)
        return
    st.rerun()


def measured(request: Request, refused: str, invitation: str, icon: str) -> Answer | None:
    """The answer that has a result; where there is none, the visitor is told why, how far it is, or what Measure does.

    ``refused``: what cannot be done where the request cannot be.
    """
    try:
        found = services.look_up(request)
    except QfundError as error:
        failed(error, refused)
        return None
    if found.job is not None and found.job.active:
        follow(found.key)
        return None
    if found.result is None:
        if found.job is not None:
            ended(found.job)
        empty("Not measured yet", f"**Measure** {invitation}", icon)
        return None
    return found
