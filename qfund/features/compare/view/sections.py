"""A report from the answer down to the last tensor. A section is made when it is opened, not before."""

from collections.abc import Callable

import streamlit as st

from qfund.features.compare import link
from qfund.features.compare.request.report import Report
from qfund.features.compare.view import data, fidelity, files, libraries, memory, statistics, take_along, tokens
from qfund.features.compare.view.answer import answer
from qfund.features.compare.words.report import title
from qfund.ui.services import Answer
from qfund.ui.states import literal

SECTIONS = {
    "fidelity": fidelity.draw,
    "tokens": tokens.draw,
    "statistics": statistics.draw,
    "memory": memory.draw,
    "libraries": libraries.draw,
    "files": files.draw,
    "data": data.draw,
}


@st.fragment
def draw(found: Answer) -> None:
    """A fragment: opening a section draws nothing else anew."""
    sections = {name: draw for name, draw in SECTIONS.items() if draw not in _without(found.result)}
    titles = {link.SECTIONS[name]: name for name in sections}
    if st.session_state.get("section") not in titles:
        shown = link.shown_section() if link.shown_section() in sections else next(iter(sections))
        st.session_state["section"] = link.SECTIONS[shown]  # a default that changes would make other tabs of them
    link.show_section(titles[st.session_state["section"]])  # before the link that is copied
    link.rewrite()
    with st.container(key="report"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.header(literal(title(found.result)), anchor=False, width="content")
            with st.container(horizontal=True, width="content", key="report_buttons"):
                _copy_link(found)
                take_along.draw(found)
        answer.draw(found)
        tabs = st.tabs(list(titles), key="section", on_change="rerun")
        for tab, section in zip(tabs, sections.values(), strict=True):
            if tab.open:
                with tab:
                    section(found)


def _without(report: Report) -> list[Callable[[Answer], None]]:
    """Sections of which this report has nothing."""
    absent = {libraries.draw: not report.spec.libraries, statistics.draw: not statistics.has(report)}
    absent[files.draw] = not files.has(report)
    return [draw for draw, nothing in absent.items() if nothing]


def _copy_link(found: Answer) -> None:
    """The complete link, with a button that copies it."""
    with st.popover("Copy link", icon=":material/link:", key="copy_link"):
        link.draw(found.result.spec)
