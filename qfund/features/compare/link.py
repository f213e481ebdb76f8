"""The address bar holds the complete link of the comparison that is shown; a link that is opened says what to show."""

from dataclasses import replace
from urllib.parse import urlencode

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.link import (
    MARGIN_NAMES,
    from_query,
    margin_from_query,
    margin_to_query,
    to_query,
)
from qfund.features.compare.request.spec import Spec, checked
from qfund.ui import carried
from qfund.ui.address import base, current_query, names_a_folder

MAX_TEXT = 4000  # characters of an own text that this page takes; the command line takes longer ones

LONGEST = 8000  # characters of an encoded link: browsers, servers and messengers cut longer ones
_SHOWN = "shown"  # Spec
_QUERY = "query"  # the query parameters that ``_SHOWN`` was read from or written to
_PROBLEMS = "link_problems"

_MARGIN = "margin"  # Margin


def opened() -> tuple[Spec, list[str]]:
    """The comparison to show, and what had to be ignored in the link that asked for it.

    Whatever the link leaves out is filled in, and the address bar then holds all of it.
    """
    state = st.session_state
    query = current_query()
    if _SHOWN in state and query in ({}, state[_QUERY]):
        # Nothing new; a visitor who comes back from another page (which has no parameters) finds what was there, with
        # what they have chosen since.
        if not query:
            state[_SHOWN] = _adopted(state[_SHOWN])
        _write(state[_SHOWN])
        return state[_SHOWN], state[_PROBLEMS]
    # The margin by which candidates are judged stands in the link too, and is no part of the comparison.
    asked = {name: values for name, values in query.items() if name not in MARGIN_NAMES}
    spec, problems = from_query(asked, EXAMPLE) if asked else (EXAMPLE, [])
    chosen, ignored = margin_from_query(query)
    show_margin(chosen)
    problems += ignored
    if spec.text is not None and len(spec.text) > MAX_TEXT:
        problems.append(
            f"Ignored text in the link: it has {len(spec.text):,} characters; this page takes {MAX_TEXT:,}."
        )
        spec = replace(spec, text=None)
    spec = spec if query else _adopted(spec)
    show(spec, problems)
    return spec, problems


def _adopted(spec: Spec) -> Spec:
    """With the model and the precisions that were chosen on another page, where that can be compared."""
    try:
        found = carried.adopted(spec)
        return checked(replace(found, precisions=tuple(p for p in found.precisions if p != found.reference)))
    except QfundError:
        return spec


def show(spec: Spec, problems: list[str] | None = None) -> None:
    """Make this the comparison that the address bar names."""
    st.session_state[_SHOWN] = spec
    st.session_state[_PROBLEMS] = problems or []
    carried.remember(spec, EXAMPLE)
    _write(spec)


def to_open(spec: Spec) -> dict[str, list[str]]:
    """Query parameters for the Compare page; also remembers a comparison that no link can hold."""
    if fits(spec):
        return to_query(spec) | margin_to_query(shown_margin())
    st.session_state[_SHOWN], st.session_state[_QUERY], st.session_state[_PROBLEMS] = spec, {}, []
    return {}


def draw(spec: Spec) -> None:
    """The complete link, with a button that copies it, or why there is none to send."""
    if not fits(spec):
        st.caption("The text is too long for a link: send the JSON file of the section Data instead.")
        return
    if names_a_folder(spec.model):
        st.caption(
            "This link names a folder on this machine and opens only here. To send the comparison, send the JSON file "
            "of the section Data instead."
        )
    else:
        st.caption("Opens exactly this comparison, with every choice written out.")
    st.code(address(spec), language=None, wrap_lines=True)


def address(spec: Spec) -> str:
    """The complete link of a comparison, to be sent to somebody."""
    return f"{base()}/?{_encoded(spec)}&{urlencode(margin_to_query(shown_margin(), complete=True), doseq=True)}"


def fits(spec: Spec) -> bool:
    """Whether a link can hold it: not with texts that are too long for this page, or for what carries links."""
    if spec.text is None and not spec.texts:
        return True
    size = len(spec.text or "") + sum(len(named.name) + len(named.text) for named in spec.texts)
    return size <= MAX_TEXT and len(_encoded(spec)) <= LONGEST


def shown_margin() -> Margin:
    found: Margin = st.session_state.get(_MARGIN, Margin())
    return found


def show_margin(margin: Margin) -> None:
    st.session_state[_MARGIN] = margin


def rewrite() -> None:
    """The margin has changed: the address bar shall say so."""
    if _SHOWN in st.session_state:
        _write(st.session_state[_SHOWN])


def _write(spec: Spec) -> None:
    query = (to_query(spec) if fits(spec) else {}) | margin_to_query(shown_margin())
    if current_query() != query:
        st.query_params.from_dict(query)
    # As they read back: an empty list of values does not come back.
    st.session_state[_QUERY] = current_query()


def _encoded(spec: Spec) -> str:
    return urlencode(to_query(spec), doseq=True)
