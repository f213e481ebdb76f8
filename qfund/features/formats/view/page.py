"""The sections of the page Number formats below the bit editor: a number, the ranges, and real weights."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.features.formats import figures, link, tables
from qfund.features.formats.link import ADDRESS, SECTIONS, Asked
from qfund.features.formats.request.formats import FORMATS
from qfund.features.formats.request.numbers import LONGEST, parse
from qfund.features.formats.tables import RAW, SCALED, SCALINGS
from qfund.features.formats.view import bits
from qfund.ui import columns, pickers, weights_choice
from qfund.ui.states import failed, literal, told

_PAGE = "formats"
_EXAMPLES = ("1/3", "0.1", "66246", "1e-8", "2^-24", "448.5")
_SCALINGS = {RAW: "Cast as they are", SCALED: "Scaled first, below 16 bits"}


def draw() -> None:
    """The whole view."""
    asked, new = ADDRESS.opened()
    _follow(asked, new)
    ADDRESS.show(asked)
    told(ADDRESS.problems())
    _sections()


def _follow(asked: Asked, new: bool) -> None:
    """Let the widgets begin at ``asked``."""
    values = {"number": asked.number, "scaling": asked.scaling, "section": SECTIONS[asked.section]}
    pickers.begin(_PAGE, values, new)
    weights_choice.follow(_PAGE, asked.part, new)


@st.fragment
def _sections() -> None:
    """Each is made when it is opened."""
    tabs = dict(zip(SECTIONS, st.tabs(list(SECTIONS.values()), key=f"{_PAGE}_section", on_change="rerun"), strict=True))
    opened = next((name for name, tab in tabs.items() if tab.open), "bits")
    asked = replace(ADDRESS.current(), section=opened)
    if asked != ADDRESS.current():
        ADDRESS.show(asked)
    with tabs[opened]:
        if opened == "bits":
            bits.draw()
            _number()
        else:
            {"ranges": _ranges, "weights": _weights}[opened]()


def _number() -> None:
    st.header("A number in every format", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Number",
            key=f"{_PAGE}_number",
            max_chars=LONGEST,
            width=300,
            help="Such as 66246, 0.1, 1e-8, 1/3, 2^-24, inf or nan. It is taken exactly, then rounded once.",
            persist_state="session",
        )
        for example in _EXAMPLES:
            st.button(example, key=f"{_PAGE}_example_{example}", on_click=_example, args=(example,))
    try:
        value = parse(text or "")
    except QfundError as error:
        failed(error)
        return
    asked = replace(ADDRESS.current(), number=(text or "").strip())
    if asked != ADDRESS.current():
        ADDRESS.show(asked)
    st.button(
        f"Put it into the bits above, as {asked.row.label}",
        icon=":material/arrow_upward:",
        key=f"{_PAGE}_into_bits",
        on_click=lambda: ADDRESS.show(link.holding(ADDRESS.current(), value)),
    )
    st.code(tables.digits(value), language=None)
    frame = tables.of_number(value)
    st.dataframe(
        frame,
        hide_index=True,
        column_order=["label", "value", "happened", "error", "code"],
        column_config=_NUMBER_COLUMNS,
        height=columns.height(len(frame)),
        placeholder="–",
        key=f"{_PAGE}_of_number",
        alt="What each format makes of the number",
    )


def _example(text: str) -> None:
    st.session_state[f"{_PAGE}_number"] = text


def _ranges() -> None:
    st.plotly_chart(
        _per_power_of_two(ADDRESS.current().format),
        config=axes.CONFIG,
        key=f"{_PAGE}_per_power",
        alt="How many values each format has between neighbouring powers of two",
    )
    st.caption(
        "From each power of two to the next a float has equally many values, so its steps grow with the number; below "
        "its smallest normal number it runs out of digits, and the line slopes down. An integer has equal steps: twice "
        "as many values in each next stretch, all of them from 1 on, which is why it needs a scale. Positive numbers "
        "only. The axis is as wide as the chosen format needs; a click on FP64 in the legend shows it too."
    )
    frame = tables.ranges()
    st.dataframe(
        frame,
        hide_index=True,
        column_order=list(_RANGE_COLUMNS),
        column_config=_RANGE_COLUMNS,
        height=columns.height(len(frame)),
        placeholder="–",
        key=f"{_PAGE}_ranges",
        alt="Largest, smallest, epsilon and number of values of each format",
    )


@cache
def _per_power_of_two(chosen: str) -> Any:
    return figures.per_power_of_two(tables.per_power_of_two(), chosen)


def _weights() -> None:
    asked = ADDRESS.current()
    part = weights_choice.draw(_PAGE, asked.part)
    scaling = st.segmented_control(
        "How they come into the format",
        list(SCALINGS),
        format_func=_SCALINGS.__getitem__,
        key=f"{_PAGE}_scaling",
        required=True,
        persist_state="session",
        help="Casts to 16 bits and more take weights as they are. Formats of 8 bits and fewer are used with a scale: "
        "here one for all these weights, so that the largest becomes the format's largest number.",
    )
    asked = replace(asked, part=part, scaling=str(scaling))
    if asked != ADDRESS.current():
        ADDRESS.show(asked)
    found = weights_choice.read(part)
    if found is None:
        return
    finite = found.values[np.isfinite(found.values)]
    st.caption(literal(f"Shown: {weights_choice.said(found)}."))
    if finite.size < found.values.size:
        st.caption(f":material/warning: {found.values.size - finite.size:,} weights are not finite: left out.")
    if not finite.size:
        return
    frame, figure = _fall(weights_choice.key(part), asked.scaling, finite)
    st.plotly_chart(
        figure,
        config=axes.CONFIG,
        key=f"{_PAGE}_where",
        alt="The sizes of the weights above the range of each format",
    )
    st.caption(
        "Above: how large the weights are. Below: from where to where each format reaches, solid with all its digits, "
        f"light with fewer. Weights are {literal(SCALINGS[asked.scaling])}."
    )
    st.dataframe(
        frame,
        hide_index=True,
        column_order=list(_WEIGHT_COLUMNS),
        column_config=_WEIGHT_COLUMNS,
        height=columns.height(len(frame)),
        placeholder="–",
        key=f"{_PAGE}_weights",
        alt="Overflow, flush to zero and mean relative error of the weights in each format",
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _fall(key: str, scaling: str, _finite: NDArray[np.float32]) -> tuple[Any, Any]:
    """By the weights' key: Streamlit would look at a sample of a large array."""
    spans = tables.spans(FORMATS, _finite, scaling)
    figure = figures.where(tables.sizes(_finite), spans)
    return tables.of_weights(_finite, scaling), figure


def _text(title: str, explained: str | None = None, **more: Any) -> Any:
    return st.column_config.TextColumn(title, help=explained, **more)


def _percent(title: str, explained: str) -> Any:
    return st.column_config.NumberColumn(title, help=explained, format="%.4g %%")


_NUMBER_COLUMNS: dict[str, Any] = {
    "label": _text("Format", pinned=True),
    "value": _text("Becomes", "To 17 digits."),
    "happened": _text("What happened", width="medium"),
    "error": st.column_config.NumberColumn("Relative error", format="%.3g"),
    "code": _text("Bits", "In hexadecimal."),
}
_RANGE_COLUMNS: dict[str, Any] = {
    "label": _text("Format", pinned=True),
    "bits": st.column_config.NumberColumn("Bits", format="%.0f"),
    "fields": _text("Sign + exponent + fraction"),
    "largest": _text("Largest"),
    "normal": _text("Smallest normal", "The smallest with all fraction bits."),
    "smallest": _text("Smallest", "The smallest positive one: of a float subnormal."),
    "epsilon": _text("Epsilon", "From 1 to the next number."),
    "finite": _text("Different values", "Finite ones; ±0 count once.", alignment="right"),
    "special": _text("Besides"),
    "meaning": _text("What it is for", width="large"),
}
_WEIGHT_COLUMNS: dict[str, Any] = {
    "label": _text("Format", pinned=True),
    "overflow": _percent("Overflow", "Beyond the format's largest number: infinite, or clamped to it."),
    "zero": _percent("Flushed to zero", "Weights that are not zero and become it."),
    "subnormal": _percent("Subnormal", "Kept with fewer digits than the format has."),
    "error": _percent("Mean relative error", "Mean of |ŵ − w| / |w| over weights that are not zero and stay finite."),
    "used": st.column_config.NumberColumn("Values in use", format="localized", help="Different values; up to 16 bits."),
    "scale": st.column_config.NumberColumn("Scale", format="%.4g", help="What weights are divided by first."),
}
