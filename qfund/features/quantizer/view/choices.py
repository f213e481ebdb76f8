"""What a visitor of the page Linear quantiser chooses: the numbers, and how they are quantised."""

from dataclasses import replace

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.quantizer.link import COURSE, SOURCES, Asked
from qfund.features.quantizer.request import matrices
from qfund.features.quantizer.request.linear import BITS, CONVENTIONS, GRANULARITIES, Floats, Scheme, checked
from qfund.ui import pickers, weights_choice
from qfund.ui.states import failed, literal

_PAGE = "quantiser"
_PER = {
    "tensor": "Whole tensor",
    "channel": "Output channel (row)",
    "g32": "Group of 32",
    "g64": "Group of 64",
    "g128": "Group of 128",
}
_AS = {"torchao": "torchao's", "course": "The course's"}
_MAPPINGS = {False: "Asymmetric", True: "Symmetric"}


def follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``."""
    values = {
        "source": asked.source,
        "text": asked.text,
        "bits": asked.scheme.bits,
        "mapping": asked.scheme.symmetric,
        "granularity": asked.scheme.granularity,
        "convention": asked.scheme.convention,
    }
    pickers.begin(_PAGE, values, new)
    weights_choice.follow(_PAGE, asked.part, new)


def numbers(asked: Asked) -> Asked:
    """Where the numbers come from."""
    source = st.segmented_control(
        "Numbers",
        list(SOURCES),
        format_func=SOURCES.__getitem__,
        key=f"{_PAGE}_source",
        required=True,
        persist_state="session",
    )
    changed = replace(asked, source=str(source))
    if changed.source == "model":
        changed = replace(changed, part=weights_choice.draw(_PAGE, changed.part))
    elif changed.source == "typed":
        text = st.text_area(
            "Rows of numbers",
            key=f"{_PAGE}_text",
            max_chars=matrices.LONGEST,
            height=110,
            help="A row a line, numbers between spaces or commas; Python's [[1, 2], [3, 4]] too.",
            persist_state="session",
        )
        changed = replace(changed, text=text or "")
    return _anew(asked, changed, changed.source != asked.source or changed.part != asked.part)


def scheme(asked: Asked) -> Asked:
    """How they are quantised."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        bits = st.segmented_control(
            "Bits", BITS, key=f"{_PAGE}_bits", required=True, persist_state="session", help="Of each code q."
        )
        mapping = st.segmented_control(
            "Range",
            list(_MAPPINGS),
            format_func=_MAPPINGS.__getitem__,
            key=f"{_PAGE}_mapping",
            required=True,
            persist_state="session",
            help="Asymmetric: from the smallest to the largest weight, with a zero-point. Symmetric: equally far to "
            "both sides of zero, without one.",
        )
        granularity = st.selectbox(
            "One scale for each",
            list(GRANULARITIES),
            format_func=_PER.__getitem__,
            key=f"{_PAGE}_granularity",
            width=210,
            persist_state="session",
            help="The fewer weights share a scale, the finer its steps, and the more scales are stored.",
        )
        convention = st.segmented_control(
            "Convention",
            list(CONVENTIONS),
            format_func=_AS.__getitem__,
            key=f"{_PAGE}_convention",
            required=True,
            persist_state="session",
            help=" ".join(f"**{_AS[name]}** {literal(meaning)}" for name, meaning in CONVENTIONS.items()),
        )
        if asked.source == "course":
            st.button(
                "The course's first try: s = 3.5, z = −70",
                icon=":material/school:",
                on_click=_first_try,
                key=f"{_PAGE}_first_try",
            )
    found = Scheme(int(bits or 8), bool(mapping), str(granularity), str(convention))
    return _anew(asked, replace(asked, scheme=found), found != asked.scheme)


def _first_try() -> None:
    """Set the widgets; the page reads the rest from ``wanted``."""
    st.session_state[f"{_PAGE}_wanted"] = COURSE
    follow(COURSE, True)


def wanted() -> Asked | None:
    """What a button asked for, once."""
    found: Asked | None = st.session_state.pop(f"{_PAGE}_wanted", None)
    return found


def _anew(before: Asked, after: Asked, other: bool) -> Asked:
    """Of other numbers or another scheme, the rule chooses again."""
    return replace(after, scale=None, zero_point=None) if other else after


def read(asked: Asked) -> tuple[Floats, tuple[int, int], str, int] | None:
    """The matrix, where it begins, what it is, and the bytes that it takes; None after it has been said why not."""
    try:
        if asked.source == "typed":
            found = matrices.parse(asked.text)
            return found, (0, 0), f"your {found.shape[0]} × {found.shape[1]} numbers", found.nbytes
        if asked.source == "course":
            return matrices.COURSE, (0, 0), "the course's 3 × 3 matrix", matrices.COURSE.nbytes
        part = weights_choice.read(asked.part)
        if part is None:
            return None
        return checked(part.values), (part.row, part.column), weights_choice.said(part), part.stored_bytes
    except QfundError as error:
        failed(error)
        return None
