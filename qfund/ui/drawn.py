"""What was made once for a result is shared by all visitors and never changed: frames, figures, payloads, and elements.

Elements that are drawn while something is made are drawn again whenever it is asked for, without being made anew
(Streamlit keeps and repeats their messages). So what a page shows of a result, between its widgets, costs a rerun
next to nothing. Widgets are no such elements: they stay outside.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import streamlit as st

from qfund.ui.services import Answer

Made = TypeVar("Made")


@st.cache_resource(max_entries=512, show_spinner=False)
def _made(key: str, what: str, _make: Callable[[], object]) -> object:
    return _make()


def once(found: Answer, what: str, make: Callable[[Any], Made]) -> Made:
    """``make(result)``, made and drawn at most once for this result; ``what`` names it and everything else that it
    depends on."""
    when = getattr(found.result, "created", "")  # what files alone tell has no time
    return kept(found.key, f"{when} {what}", lambda: make(found.result))


def kept(key: str, what: str, make: Callable[[], Made]) -> Made:
    """``make()``, at most once for ``key`` and ``what``."""
    return cast(Made, _made(key, what, make))
