"""Frames, figures and payloads that were made once for a report, shared by all visitors and never changed."""

from collections.abc import Callable
from typing import TypeVar, cast

import streamlit as st

from qfund.features.compare.request.report import Report
from qfund.features.compare.view.found import Found

Made = TypeVar("Made")


@st.cache_resource(max_entries=256, show_spinner=False)
def _made(key: str, created: str, what: str, _make: Callable[[], object]) -> object:
    return _make()


def once(found: Found, what: str, make: Callable[[Report], Made]) -> Made:
    """``make(report)``, made at most once for this report; ``what`` names it and everything else that it depends on."""
    report = found.report
    assert report is not None
    return cast(Made, _made(found.key, report.created, what, lambda: make(report)))
