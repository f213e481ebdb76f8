"""A list of models: what it takes, and the way to measure what is missing."""

import shlex
from dataclasses import replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import EngineError, InvalidSpec, QfundError
from qfund.engine.job import Job
from qfund.features.compare.request.listing import Saved
from qfund.features.compare.request.spec import DEFAULT_TOKENS
from qfund.features.memory.request.plan import HeaderPlan, PlanRequest, from_headers
from qfund.features.sweep import tables, words
from qfund.features.sweep.link import LONGEST, Asked
from qfund.features.sweep.request import document
from qfund.features.sweep.request.plan import plan, total
from qfund.features.sweep.request.sweep import Item, Refused, items
from qfund.features.sweep.view import running
from qfund.features.sweep.view.rows import table
from qfund.ui import pickers, services
from qfund.ui.states import failed, literal

#: Models and characters of a list on a page; the command line takes more.
MOST, LONGEST_HERE = 200, 50_000
_EXAMPLE = "\n".join(name for name in catalog.CATALOG if name != "dummy")
_PLANNED = "sweep_planned"  # the list that somebody has pressed Plan for: its models on the Hub are looked at


class _Reading(EngineError):
    """The headers of a model on the Hub are not read yet."""


def draw(asked: Asked, there: dict[str, Saved]) -> tuple[Asked, dict[str, str]]:
    """The list and its plan. What is asked for now, and by key what the inputs of its comparisons are called."""
    with st.container(border=True, key="sweep_list", gap="small"):
        asked = _choices(asked)
        if st.button("Plan", key="sweep_plan", icon=":material/checklist:", type="primary", width=140):
            st.session_state[_PLANNED] = asked.listed
    if not asked.listed.strip():
        st.caption("Nothing is listed yet. What is measured here is found on every page, and by `qfund sweep`.")
        return asked, {}
    try:
        found = _items(asked)
    except QfundError as error:
        failed(error, "This list cannot be read.")
        return asked, {}
    costs = [row.costs for row in there.values() if row.costs]
    lines = plan(found, there.__contains__, costs)
    st.markdown(literal(words.planned(total(lines))))
    if any(not row.stored for row in lines):
        table(tables.plan(lines), "sweep_plan_table", 12)
    running.draw([row for row in lines if row.missing])
    return asked, {row.key: row.name for row in lines if row.key}


def _choices(asked: Asked) -> Asked:
    file = st.file_uploader(
        "Open a list (YAML, or text with a model a line)", type=["yaml", "yml", "txt"], key="sweep_file"
    )
    if file is not None and st.session_state.get("sweep_opened") != file.file_id:
        st.session_state["sweep_opened"] = file.file_id
        st.session_state["sweep_listed"] = file.getvalue()[:LONGEST_HERE].decode("utf-8", "replace")
    listed = st.text_area(
        "Models",
        key="sweep_listed",
        height=160,
        max_chars=LONGEST_HERE,
        placeholder=_EXAMPLE,
        help="A model a line (Hub ids also with @revision), or YAML with settings for each: see `qfund sweep --help`.",
        persist_state="session",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        candidates = pickers.precisions(
            "Candidates", "sweep_candidates", explained="Of all models that name none themselves. Empty: what is usual."
        )
        tokens = pickers.tokens(
            "Text",
            "sweep_tokens",
            (1024, 4096, DEFAULT_TOKENS),
            150,
            "Of each model's evaluation text, from its start.",
        )
    if len(listed or "") > LONGEST:
        st.caption("The list is too long for a link: keep it as a file.")
    return replace(asked, listed=listed or "", candidates=candidates, tokens=tokens)


def _items(asked: Asked) -> tuple[Item | Refused, ...]:
    """Worked out once for each list, unless headers are still being read."""
    pressed = st.session_state.get(_PLANNED) == asked.listed
    question = asked.listed, asked.candidates, asked.tokens, asked.margin, pressed
    held = st.session_state.get("sweep_items")
    if held is not None and held[0] == question:
        kept: tuple[Item | Refused, ...] = held[1]
        return kept
    chosen = document.pasted(asked.listed, asked.shared)
    if len(chosen) > MOST:
        raise InvalidSpec(f"The list has {len(chosen):,} models.", f"Give at most {MOST} here; qfund sweep takes more.")
    reading: list[str] = []

    def headers(request: PlanRequest) -> HeaderPlan:
        try:
            return _headers(request, pressed)
        except _Reading:
            reading.append(request.model)
            raise

    found = tuple(items(chosen, headers))
    if not reading or not pressed:
        st.session_state["sweep_items"] = question, found
    elif reading:
        running.again()
    return found


def _headers(request: PlanRequest, pressed: bool) -> HeaderPlan:
    """Of files here at once; of the Hub by a worker, and only after Plan was pressed."""
    if catalog.locate(request.model, request.revision).folder is not None:
        return from_headers(request)
    if not pressed:
        raise _Reading("Its headers on the Hub are not read yet.", "Press Plan.")
    found = services.at_once(request)
    if isinstance(found, Job):
        raise _Reading("Its headers are being read.", "It takes a moment.")
    headers: HeaderPlan = found
    return headers


def shell(asked: Asked) -> str:
    """``qfund sweep models.yaml --precision …``."""
    line = ["qfund", "sweep", "models.yaml"]
    if "\n" not in asked.listed.strip() and ":" not in asked.listed:
        line[2:] = asked.listed.split()
    line += ["--precision", *asked.candidates] if asked.candidates else []
    line += ["--max-tokens", str(asked.tokens)] if asked.tokens != DEFAULT_TOKENS else []
    return shlex.join(line)
