"""The bit editor: the bits of one number, what they mean, and the landmarks of its format."""

import math
from dataclasses import replace
from fractions import Fraction

import streamlit as st

from qfund.features.formats import link
from qfund.features.formats.link import ADDRESS
from qfund.features.formats.request.formats import CODEBOOK, FLOAT, FORMATS, INTEGER, Format
from qfund.features.formats.request.numbers import Number, exact, short
from qfund.features.formats.request.rounding import decode, encode
from qfund.features.formats.view import number_bits
from qfund.ui.states import literal

_KEY = "formats_format"


def draw() -> None:
    asked = ADDRESS.current()
    if st.session_state.get(_KEY) != asked.format:
        st.session_state[_KEY] = asked.format
    st.segmented_control(
        "Format",
        list(FORMATS),
        format_func=lambda name: FORMATS[name].label,
        key=_KEY,
        required=True,
        on_change=_choose,
        persist_state="session",
        help="The number stays, rounded to the format. Click a bit to turn it over.",
    )
    row, found = asked.row, decode(asked.row, asked.code)
    st.caption(literal(f"{row.meaning} {row.note}".strip()))
    number_bits.bits(row, asked.code, _turned)
    st.latex(formula(row, asked.code))
    with st.container(horizontal=True, key="formats_value"):
        st.metric("Value", short(found.value, 9), border=True, help="To nine digits; exactly below.")
        st.metric("Kind", found.kind, border=True, help=_KINDS.get(found.kind))
        st.metric("Bits", f"0x{asked.code:0{-(-row.bits // 4)}X}", border=True, help="In hexadecimal.")
        st.metric("Step to the next number", _step(row, asked.code), border=True,
                  help="Between this number and the next one away from zero.")  # fmt: skip
    st.code(exact(found.value, 800), language=None, wrap_lines=True)
    with st.container(horizontal=True):
        for name, value in _landmarks(row).items():
            st.button(name, key=f"formats_to_{name}", on_click=_hold, args=(value,))
        st.button("One step down", key="formats_down", icon=":material/remove:", on_click=_by, args=(-1,))
        st.button("One step up", key="formats_up", icon=":material/add:", on_click=_by, args=(1,))


_KINDS = {
    "normal": "All fraction bits count, behind a leading 1 that is not stored.",
    "subnormal": "Smaller than the smallest normal number: no leading 1, so fewer digits.",
    "zero": "All bits but the sign are 0.",
    "infinity": "What too large a number becomes.",
    "NaN": "Not a number: what 0 / 0 gives.",
    "level": "An entry of the table, in units of the block's largest weight.",
    "integer": "A whole number; a scale stretches it over the weights.",
}


def formula(row: Format, code: int) -> str:
    """How the fields make the value, in LaTeX."""
    found = decode(row, code)
    result = {"infinity": r"\infty", "NaN": r"\mathrm{NaN}"}.get(found.kind) or short(found.value, 9).replace("−", "-")
    if row.kind == CODEBOOK:
        return rf"\mathrm{{table}}[{code}] = {result}"
    if row.kind == INTEGER:
        negative = rf" - {row.codes // 2}" if found.sign else ""
        return rf"{code % (row.codes // 2)}{negative} = {result}"
    if found.kind in ("infinity", "NaN"):
        return rf"{'-' * (found.sign and found.kind == 'infinity')}{result}"
    whole = 1 << row.fraction
    lead = r"1 + " if found.exponent else ""
    power = max(found.exponent, 1) - row.bias
    return (
        rf"(-1)^{found.sign} \cdot 2^{{{power}}} \cdot \left({lead}\frac{{{found.fraction}}}{{{whole}}}\right)"
        rf" {'=' if exact(found.value, 9) == exact(found.value) else chr(92) + 'approx'} {result}"
    )


def _landmarks(row: Format) -> dict[str, Number]:
    """Numbers that say most about a format, by what the button calls them."""
    found: dict[str, Number] = {"Zero": Fraction(0), "One": Fraction(1), "Largest": row.largest}
    if row.smallest_normal is not None:
        found |= {"Smallest normal": row.smallest_normal, "Smallest subnormal": row.smallest}
    if row.epsilon is not None and row.kind == FLOAT:
        found["1 + ε"] = 1 + row.epsilon
    if row.infinite:
        found["Infinity"] = math.inf
    return found | ({"NaN": math.nan} if row.nan else {})


def _step(row: Format, code: int) -> str:
    value, following = decode(row, code).value, _next(row, code, 1 if decode(row, code).sign == 0 else -1)
    if following == code:
        return "none"
    other = decode(row, following).value
    if not all(isinstance(end, Fraction) or math.isfinite(end) for end in (value, other)):
        return "none"
    return short(abs(Fraction(other) - Fraction(value)))


def _next(row: Format, code: int, by: int) -> int:
    """The neighbour in the order of values; at an end, the same."""
    if row.kind == INTEGER:
        place = code - (row.codes if code >= row.codes // 2 else 0) + by
        return place % row.codes if -row.codes // 2 <= place < row.codes // 2 else code
    if row.kind == CODEBOOK:
        return min(max(code + by, 0), row.codes - 1)
    half = row.codes // 2
    if decode(row, code).kind == "NaN":
        return code
    place = (half - code if code >= half else code) + by
    last = encode(row, math.inf) or 0
    if abs(place) > last:
        return code
    return half - place if place < 0 else place


def _choose() -> None:
    if (name := st.session_state[_KEY]) in FORMATS:  # a browser may send none
        ADDRESS.show(link.in_format(ADDRESS.current(), name))


def _turned() -> None:
    asked = ADDRESS.current()
    if (found := number_bits.turned_to()) and found[0] == asked.format and found[1] < asked.row.codes:
        ADDRESS.show(replace(asked, code=found[1]))


def _hold(value: Number) -> None:
    ADDRESS.show(link.holding(ADDRESS.current(), value))


def _by(step: int) -> None:
    asked = ADDRESS.current()
    ADDRESS.show(replace(asked, code=_next(asked.row, asked.code, step)))
