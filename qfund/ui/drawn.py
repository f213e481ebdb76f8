"""Frames, figures and payloads that were made once for a result, shared by all visitors and never changed."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import streamlit as st

from qfund.ui.services import Answer

Made = TypeVar("Made")


@st.cache_resource(max_entries=256, show_spinner=False)
def _made(key: str, created: str, what: str, _make: Callable[[], object]) -> object:
    return _make()


def once(found: Answer, what: str, make: Callable[[Any], Made]) -> Made:
    """``make(result)``, made at most once for this result; ``what`` names it and everything else that it depends on."""
    return cast(Made, _made(found.key, found.result.created, what, lambda: make(found.result)))
