"""Where the model shall run: widgets, kept in the address, and what running each precision there takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.compare.link import show_hardware, shown_hardware
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.report import Report, measured
from qfund.features.memory import link as memory
from qfund.features.memory.request import budgets, fits, sizing
from qfund.features.memory.request.budgets import GPUS, MACHINE, recognized
from qfund.features.memory.request.fits import Fits, Row
from qfund.precisions.table import PRECISIONS
from qfund.ui import pickers, services
from qfund.ui.drawn import once

_BEGAN_AT = "hardware_began_at"  # the hardware that the widgets began at
EVERY = 1.0  # seconds between two looks at what is being sized


def draw() -> Hardware:
    """The widgets; what is chosen."""
    state, place = st.session_state, shown_hardware()
    if state.get(_BEGAN_AT) != place:
        state["hardware_budget"], state["hardware_context"] = place.budget, place.context
        state["hardware_batch"] = place.batch
        state[_BEGAN_AT] = place
    budget = st.selectbox(
        "Run on",
        list(dict.fromkeys([MACHINE, *GPUS, state["hardware_budget"] or MACHINE])),
        format_func=_title,
        key="hardware_budget",
        accept_new_options=True,
        width=225,
        help="This machine as far as its memory is free now, a GPU, or type an amount: 16GiB.",
        persist_state="session",
    )
    context = pickers.count(
        "Context",
        "hardware_context",
        place.context,
        most=fits.MAX_CONTEXT,
        width=120,
        explained="Tokens of each sequence that the model shall hold, prompt and answer together: 8192, 8k. Empty: "
        f"what it was made for, at most {fits.DEFAULT_CONTEXT:,}.",
        placeholder="auto",
    )
    batch = pickers.count(
        "Batch", "hardware_batch", place.batch, most=fits.MAX_BATCH, width=100, explained="Sequences at once."
    )
    place = Hardware(recognized(str(budget or MACHINE)), context, batch or 1)
    state[_BEGAN_AT] = place
    show_hardware(place)
    return place


def _title(name: str) -> str:
    return "This machine, what is free" if name == MACHINE else GPUS[name].title if name in GPUS else name


@dataclass(frozen=True, slots=True)
class Room:
    """What running takes, by precision, as far as that is known. ``note`` says why it is not, or what it means;
    ``waiting`` is the key of a job that will tell; ``workload`` is what the rows are of."""

    asked: memory.Asked
    rows: Mapping[str, Row] = field(default_factory=dict)
    note: str = ""
    problem: QfundError | None = None
    waiting: str | None = None
    workload: fits.Workload | None = None


def room(report: Report, place: Hardware) -> Room:
    """Sized by the page Memory's own job, a second of work, and then by arithmetic for any hardware."""
    spec = report.spec
    names = tuple(name for name in PRECISIONS if name in {result.precision for result in measured(report)})
    asked = memory.Asked(spec.model, spec.revision, spec.also, names, place.budget, place.length(None), place.batch)
    try:
        asked.workload()
        answer = services.ask(asked.fits)
    except QfundError as error:
        return Room(asked, problem=error)
    if answer.result is None:
        job = answer.job
        if job is not None and job.active:
            return Room(asked, note="Whether it fits is worked out in a moment.", waiting=answer.key)
        return Room(asked, problem=job.error if job else None)
    found: Fits = answer.result
    asked = memory.Asked(
        spec.model, spec.revision, spec.also, names, place.budget, place.length(found.shape.trained), place.batch
    )
    workload = asked.workload()
    if place.budget == MACHINE:
        workload = replace(workload, budget=_free())
    rows = once(
        answer,
        f"rows of {workload} with {spec.kv}",
        lambda found: sizing.rows_with(found.shape, found.weights, workload, spec.kv),
    )
    return Room(asked, rows, _said(workload), workload=workload)


@st.cache_resource(ttl=10, show_spinner=False)
def _free() -> int:
    """Bytes of memory that this machine has left; it changes while somebody reads, and no more often is it said."""
    return budgets.budget(MACHINE)


def _said(workload: fits.Workload) -> str:
    sequences = f"{workload.batch:,} × {workload.context:,} tokens"
    return f"To spare: beside weights, a KV cache of {sequences}, and estimates of activations and runtime."


@st.fragment(run_every=EVERY)
def follow(key: str) -> None:
    """Draw the page anew once the job has ended."""
    job = services.jobs().get(key)
    if job is None or not job.active:
        st.rerun()
