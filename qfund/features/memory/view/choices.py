"""What a visitor of the page Memory chooses: the model above, what it is to do below."""

from dataclasses import replace

import streamlit as st

from qfund.drawing.phrases import label
from qfund.features.memory.link import ADDRESS, SECTIONS, Asked
from qfund.features.memory.request.budgets import GPUS, MACHINE, recognized
from qfund.features.memory.request.fits import MAX_BATCH, MAX_CONTEXT
from qfund.features.memory.request.load_peak import AS_STORED
from qfund.precisions.caches import KV_CHOICES, KV_FORMATS, title
from qfund.ui import pickers
from qfund.ui.pickers import OFFERED

#: Tokens on offer; a link may name any other number.
CONTEXTS = tuple(2**power for power in range(7, 21))
AS_COMPUTED = "as computed"


def follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``: when a link is opened, and when somebody comes back from another page."""
    values = {
        "model": asked.model,
        "precisions": list(asked.precisions),
        "revision": asked.revision or "",
        "also": list(asked.also),
        "budget": asked.budget,
        "context": asked.context,
        "batch": asked.batch,
        "kv": asked.kv or AS_COMPUTED,
        "load": asked.load,
        "section": SECTIONS[asked.section],
    }
    pickers.begin("memory", values, new)


def model(asked: Asked) -> Asked:
    """Which model, in which precisions."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="memory_choices"):
        name = pickers.model("memory_model", asked.model, typed="; of a Hub id only headers are fetched")
        precisions = pickers.precisions("Precisions", "memory_precisions")
        with st.popover("Options", icon=":material/tune:"):
            revision = pickers.revision("memory_revision")
            also = pickers.also("memory_also")
    return replace(asked, model=name, revision=revision, precisions=precisions or asked.precisions, also=also)


def workload(asked: Asked) -> Asked:
    """What the model is to do, and in how much memory."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="memory_workload"):
        budget = st.selectbox(
            "Memory",
            list(dict.fromkeys([MACHINE, *GPUS, st.session_state["memory_budget"] or MACHINE])),
            format_func=lambda name: "This machine, what is free now" if name == MACHINE else _gpu(name),
            key="memory_budget",
            accept_new_options=True,
            width=300,
            help="This machine, a GPU (type `4090`), or an amount: type `16GiB`.",
            on_change=_recognize,
            persist_state="session",
        )
        context = pickers.tokens(
            "Context",
            "memory_context",
            CONTEXTS,
            180,
            f"Tokens of each sequence, prompt and answer together, at most {MAX_CONTEXT:,}.",
        )
        batch = pickers.count(
            "Batch", "memory_batch", asked.batch, most=MAX_BATCH, width=130, explained="Sequences at once."
        )
        kv = st.selectbox(
            "KV cache in",
            tuple(dict.fromkeys((AS_COMPUTED, *KV_CHOICES, st.session_state["memory_kv"]))),
            format_func=lambda name: name if name == AS_COMPUTED else title(name).upper(),
            key="memory_kv",
            width=150,
            help="; ".join(f"{name.upper()}: {KV_FORMATS[name].meaning}" for name in KV_CHOICES[3:]),
            persist_state="session",
        )
    asked = replace(
        asked,
        budget=recognized(str(budget or MACHINE)),
        context=context,
        batch=batch or 1,
        kv=None if kv == AS_COMPUTED else kv,
    )
    ADDRESS.show(asked)
    return asked


def _recognize() -> None:
    """Let the box hold the GPU on the list that somebody has typed in other words."""
    st.session_state["memory_budget"] = recognized(str(st.session_state["memory_budget"] or MACHINE))


def _gpu(name: str) -> str:
    return GPUS[name].title if name in GPUS else name


def load(asked: Asked) -> Asked:
    """The precision whose ways to load are looked at."""
    offered = (*OFFERED, AS_STORED[0])
    name = st.selectbox(
        "Load in",
        offered,
        format_func=label,
        key="memory_load",
        width=300,
        help=f"{label(AS_STORED[0])}: a checkpoint that is quantised already, as transformers reads it.",
        persist_state="session",
    )
    asked = replace(asked, load=name if name in offered else asked.load)
    ADDRESS.show(asked)
    return asked
