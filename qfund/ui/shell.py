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
    return st.Page(ROOT / "pages/compare.py", title="Compare", icon="⚖️", default=True)


def saved_page() -> Page:
    return st.Page(ROOT / "pages/saved.py", title="Saved", icon="🗂️")


def guide_page() -> Page:
    return st.Page(ROOT / "pages/guide.py", title="Guide", icon="📖")


def _navigation() -> Page:
    # An emoji for each page: a Material icon as page icon makes every visitor fetch a font from a foreign host.
    return st.navigation([compare_page(), saved_page(), guide_page()], position="top")


def run() -> None:
    """``app.py``: configure, navigate, draw the page."""
    st.set_page_config(page_title="qfund", page_icon="⚖️", layout="wide")
    services.warm_up()
    page = _navigation()
    token = _inside.set(True)
    try:
        page.run()
    finally:
        _inside.reset(token)


def require() -> None:
    """The first line of a page: run it inside ``app.py``, and start again there if it runs alone."""
    if not _inside.get():
        _navigation()
        st.rerun()
