"""The page Memory below the choice of a model: what headers tell at once, what is exact a moment later, and sections.

A section is made when it is opened. What follows a slider is a fragment and starts no job.
"""

from dataclasses import replace

import streamlit as st

from qfund.core.errors import QfundError, UnsupportedModel
from qfund.core.request import Request
from qfund.core.units import bytes_text
from qfund.features.memory import words
from qfund.features.memory.link import ADDRESS, SECTIONS, Asked
from qfund.features.memory.request.plan import HeaderPlan, Plan
from qfund.features.memory.view import choices, data, fit, loading, modules, sizes
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS
from qfund.ui import folding, progress, services
from qfund.ui.services import Answer
from qfund.ui.states import failed, literal, told

_STORED = next(row.name for row in PRECISIONS.values() if row.family == STORED)


def draw() -> None:
    """The whole view."""
    asked, new = ADDRESS.opened()
    choices.follow(asked, new)
    folding.change()
    asked = choices.model(asked)
    ADDRESS.show(asked)
    told(ADDRESS.problems())
    _below(asked)


def _below(asked: Asked) -> None:
    """Everything below the choice of a model."""
    headers = progress.at_once(asked.plan)
    if headers is None:
        return
    exact = _answer(asked.plan)
    _at_once(headers, exact.result if exact else None)
    if exact is None or exact.result is None:
        if exact is not None:
            _wait(exact)
        return
    _sections(headers, exact, _answer(asked.fits))


def _answer(request: Request) -> Answer | None:
    """What is known about a plan, which is asked for by opening the page: a second, and no weights."""
    try:
        return services.ask(request)
    except QfundError as error:
        failed(error)
        return None


def _wait(answer: Answer) -> None:
    job = answer.job
    assert job is not None
    if job.active:
        st.caption("Exact, for every precision, in a moment: the model is built without its weights.")
        progress.follow(answer.key)
    else:
        progress.ended(job)
        _again(answer)


def _again(answer: Answer) -> None:
    if st.button("Try again", icon=":material/refresh:", key=f"again_{answer.key}"):
        assert answer.job is not None
        services.jobs().submit(answer.job.request)
        st.rerun()


def _at_once(headers: HeaderPlan, plan: Plan | None) -> None:
    """Four numbers, first from headers and then exact; each says which of the two it is."""
    exact = {} if plan is None else {entry.precision: entry.predicted_bytes for entry in plan.entries}
    with st.grid(4, min_column_width=150, gap="small"):
        st.metric(
            "Stored on disk",
            bytes_text(headers.stored_bytes),
            help=f"All tensors of the files: {words.stored_phrase(headers)}.",
            border=True,
        )
        if plan is None:
            st.metric("Stored numbers", words.count_text(headers.elements), border=True, help=headers.notes[0])
        else:
            st.metric(
                "Parameters",
                words.count_text(plan.parameters),
                help=f"{plan.parameters:,}, tied ones once.",
                border=True,
            )
        for name in ("fp32", "bf16"):
            count = exact.get(name, headers.cast_bytes.get(name))
            if count is not None:
                how, said = "estimate", headers.notes[0]
                if name in exact:
                    how, said = "exact", "Weights and buffers of the loaded model."
                st.metric(
                    f"{name.upper()}, {how}",
                    bytes_text(count),
                    help=f"{count:,} bytes. {said}",
                    border=True,
                )
    for note in headers.notes[1:] if plan is None else plan.notes:
        st.caption(f":material/info: {literal(note)}")


@st.fragment
def _sections(headers: HeaderPlan, exact: Answer, sized: Answer | None) -> None:
    tabs = dict(zip(SECTIONS, st.tabs(list(SECTIONS.values()), key="memory_section", on_change="rerun"), strict=True))
    opened = next((name for name, tab in tabs.items() if tab.open), "fits")
    # Not an argument: in a fragment's own run that would be what the last whole run was asked for.
    asked = replace(ADDRESS.current(), section=opened)
    ADDRESS.show(asked)
    if [entry.precision for entry in exact.result.entries] == [_STORED]:
        asked = replace(asked, precisions=(_STORED,))  # of a checkpoint that is quantised already there is no other
    with tabs[opened]:
        if opened == "fits":
            asked = choices.workload(asked)
            if sized is not None and sized.result is not None:
                folding.fold("memory_choices", "memory_workload")
                fit.draw(asked, sized.result)
            elif sized is not None and sized.job and isinstance(error := sized.job.error, UnsupportedModel):
                st.info(f"{literal(error.message)} {literal(error.remedy)}", icon=":material/info:")  # no try mends it
            elif sized is not None:
                _wait(sized)
        elif opened == "sizes":
            sizes.draw(asked, headers, exact)
        elif opened == "loading":
            loading.draw(asked)
        elif opened == "modules":
            modules.draw(asked, exact)
        else:
            data.draw(asked, headers, exact, sized)
