"""The frame around every page: configuration and navigation, also when a page's link is a server's first request."""

from contextvars import ContextVar
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page as StreamlitPage

from qfund.core.feature import Page
from qfund.ui import forged, services
from qfund.ui.server import login

ROOT = Path(__file__).resolve().parent.parent.parent

# Where a page's link is the first request to a fresh server, Streamlit runs the page by itself, without ``app.py``.
_inside: ContextVar[bool] = ContextVar("inside", default=False)


def _row(feature: str) -> Page:
    found = next(row for row in services.FEATURES if row.name == feature).page
    assert found is not None
    return found


def page(feature: str) -> StreamlitPage:
    """The page of a feature, by its name."""
    row = _row(feature)
    return st.Page(ROOT / f"pages/{row.path}.py", title=row.title, icon=f":material/{row.icon}:", default=row.default)


def _frame() -> StreamlitPage:
    forged.guard()
    # An emoji as page icon: a Material one, also one taken over from the navigation, makes browsers fetch a font from a
    # foreign host.
    st.set_page_config(page_title="qfund", page_icon="⚖️", layout="wide")
    groups: dict[str, list[StreamlitPage]] = {}
    for row in services.FEATURES:
        if row.page is not None:
            groups.setdefault(row.page.group, []).append(page(row.name))
    return st.navigation(groups, position="top")


def run() -> None:
    """``app.py``: draw the page that the address names."""
    services.warm_up()
    shown = _frame()
    token = _inside.set(True)
    try:
        shown.run()
    finally:
        _inside.reset(token)
    # For tests, benchmarks and pictures: the last element of a page has arrived.
    st.html("<span data-qfund-drawn></span>")


def begin(feature: str) -> None:
    """The first line of a page: run it inside ``app.py``, start again there if it runs alone, and head it."""
    if not _inside.get():
        _frame()
        st.rerun()
    row = _row(feature)
    st.set_page_config(page_title=row.tab)
    if login.configured():
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.title(row.title, anchor=False, width="stretch")
            login.draw()
    else:
        st.title(row.title, anchor=False)
    st.caption(row.description)
