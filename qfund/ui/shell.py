"""The frame around every page: configuration and navigation, also when a page's link is a server's first request."""

from contextvars import ContextVar
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from qfund.ui import services

ROOT = Path(__file__).resolve().parent.parent.parent

# Where a page's link is the first request to a fresh server, Streamlit runs the page by itself, without ``app.py``.
_inside: ContextVar[bool] = ContextVar("inside", default=False)


def compare_page() -> Page:
    return st.Page(ROOT / "pages/compare.py", title="Compare", icon=":material/balance:", default=True)


def memory_page() -> Page:
    return st.Page(ROOT / "pages/memory.py", title="Memory", icon=":material/memory:")


def captions_page() -> Page:
    return st.Page(ROOT / "pages/captions.py", title="Captions", icon=":material/closed_caption:")


def precisions_page() -> Page:
    return st.Page(ROOT / "pages/precisions.py", title="Precisions", icon=":material/stacked_line_chart:")


def outputs_page() -> Page:
    return st.Page(ROOT / "pages/outputs.py", title="Outputs", icon=":material/compare_arrows:")


def quantizer_page() -> Page:
    return st.Page(ROOT / "pages/quantiser.py", title="Quantiser", icon=":material/grid_on:")


def formats_page() -> Page:
    return st.Page(ROOT / "pages/formats.py", title="Formats", icon=":material/memory_alt:")


def saved_page() -> Page:
    return st.Page(ROOT / "pages/saved.py", title="Saved", icon=":material/inventory_2:")


def questions_page() -> Page:
    return st.Page(ROOT / "pages/questions.py", title="Questions", icon=":material/school:")


def guide_page() -> Page:
    return st.Page(ROOT / "pages/guide.py", title="Guide", icon=":material/menu_book:")


def _frame() -> Page:
    # An emoji as page icon: a Material one, also one taken over from the navigation, makes browsers fetch a font from a
    # foreign host.
    st.set_page_config(page_title="qfund", page_icon="⚖️", layout="wide")
    measured = [compare_page(), memory_page(), outputs_page(), captions_page(), saved_page()]
    explained = [questions_page(), quantizer_page(), formats_page(), precisions_page(), guide_page()]
    return st.navigation({"": measured, "Learn": explained}, position="top")


def run() -> None:
    """``app.py``: draw the page that the address names."""
    services.warm_up()
    page = _frame()
    token = _inside.set(True)
    try:
        page.run()
    finally:
        _inside.reset(token)
    # For tests, benchmarks and pictures: the last element of a page has arrived.
    st.html("<span data-qfund-drawn></span>")


def require() -> None:
    """The first line of a page: run it inside ``app.py``, and start again there if it runs alone."""
    if not _inside.get():
        _frame()
        st.rerun()
