"""One matrix, quantised: what became of it, in figures, pictures, a formula and bytes; redrawn as a slider moves."""

import hashlib
import math
from dataclasses import replace

import streamlit as st

from qfund.core.errors import InvalidInput, QfundError
from qfund.core.units import bytes_text
from qfund.features.quantizer import words
from qfund.features.quantizer.link import ADDRESS, Asked
from qfund.features.quantizer.request import linear
from qfund.features.quantizer.request.linear import Damage, Floats, Parameters, Scheme
from qfund.features.quantizer.view import choices, maps, packing
from qfund.features.quantizer.view.maps import Drawn
from qfund.features.quantizer.words import number
from qfund.ui.states import failed, literal, told

_PROBLEM, _SERIAL, _SHOWN = "quantiser_problem", "quantiser_serial", "quantiser_shown"


def draw() -> None:
    """The whole view."""
    asked, new = ADDRESS.opened()
    asked = choices.wanted() or asked
    choices.follow(asked, new)
    asked = choices.scheme(choices.numbers(asked))
    ADDRESS.show(asked)
    told(ADDRESS.problems())
    if not asked.fits:
        st.caption("These numbers are too long for a link: it opens the page without them.")
    if found := choices.read(asked):
        weight, first, what, stored = found
        st.caption(literal(f"Shown: {what}."))
        _quantized(weight, first, stored, _name_of(weight))


@st.fragment
def _quantized(weight: Floats, first: tuple[int, int], stored: int, name: str) -> None:
    """Everything that a slider changes. ``stored`` is what the matrix takes now, in bytes."""
    asked = ADDRESS.current()
    scheme = asked.scheme
    name = f"{name} {scheme}"
    if st.session_state.get(_SHOWN) != name:
        st.session_state[_SHOWN], st.session_state[_PROBLEM] = name, None
    chosen = linear.choose(weight, scheme)
    used = _used(asked, chosen)
    codes, clipped = linear.quantize(weight, used, scheme)
    values = linear.dequantize(codes, used, scheme)
    rows, columns = weight.shape
    cell = (min(asked.cell[0], rows - 1), min(asked.cell[1], columns - 1))
    own = not (asked.scale is asked.zero_point is None)

    figures, pictures, rest = st.container(), st.container(), st.container()
    with figures:
        if problem := st.session_state.get(_PROBLEM):
            failed(problem)
        _figures(linear.damage(weight, values, clipped), used, scheme, weight.shape, stored)
        for note in words.notes(weight, chosen, scheme):
            st.caption(f":material/info: {literal(note)}")
    with rest:
        packing.draw(codes, cell, scheme, weight.shape, stored)
    with pictures:  # last, so that its answer arrives when all else has
        worked = words.formulas(weight, codes, values, used, scheme, cell, own)
        serial = st.session_state.get(_SERIAL, 0)
        drawn = Drawn(weight, codes, used, chosen, scheme, first, cell, own, worked, serial, name)
        maps.maps(maps.payload(drawn), _moved)


def _name_of(weight: Floats) -> str:
    """So that a move of a slider on one matrix is not taken for one on the next."""
    return hashlib.sha256(weight.tobytes() + str(weight.shape).encode()).hexdigest()[:16]


def _used(asked: Asked, chosen: Parameters) -> Parameters:
    if asked.scale is asked.zero_point is None or asked.scheme.granularity != "tensor":
        return chosen
    scale = float(chosen.scale[0, 0]) if asked.scale is None else asked.scale
    zero_point = int(chosen.zero_point[0, 0]) if asked.zero_point is None else asked.zero_point
    return linear.checked_parameters(scale, zero_point, asked.scheme)


def _moved() -> None:
    """Somebody moved a slider, typed a number or chose a weight; what cannot be is said, and what was there stays."""
    move, asked = maps.move(), ADDRESS.current()
    st.session_state[_SERIAL] = move.get("serial", 0)
    st.session_state[_PROBLEM] = None
    if move.get("id") != st.session_state.get(_SHOWN):
        return  # of a matrix or scheme that somebody has left
    try:
        asked = _after(move, asked)
    except QfundError as error:
        st.session_state[_PROBLEM] = error
        return
    (ADDRESS.show if move.get("done") else ADDRESS.hold)(asked)


def _after(move: dict[str, object], asked: Asked) -> Asked:
    cell = move.get("cell")
    if isinstance(cell, list | tuple) and len(cell) == 2 and all(isinstance(part, int) and part >= 0 for part in cell):
        asked = replace(asked, cell=(int(cell[0]), int(cell[1])))
    if asked.scheme.granularity != "tensor":
        return asked
    scale, zero_point = move.get("scale"), move.get("zero")
    if scale is None and zero_point is None:
        return replace(asked, scale=None, zero_point=None)
    try:
        step = math.nan if scale is None else float(scale)  # type: ignore[arg-type]
        zero = math.nan if zero_point is None else float(zero_point)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        step = zero = math.nan
    if not zero.is_integer():
        raise InvalidInput("The zero-point is no whole number.", "Give one such as −70: it is a code.")
    linear.checked_parameters(step, int(zero), asked.scheme)
    return replace(asked, scale=step, zero_point=int(zero))


def _figures(damage: Damage, used: Parameters, scheme: Scheme, shape: tuple[int, ...], stored: int) -> None:
    size = linear.stored_bytes((shape[0], shape[1]), scheme)
    sqnr = "none" if damage.sqnr is None else "∞" if damage.sqnr == math.inf else f"{damage.sqnr:.2f} dB"
    one = used.scale.size == 1
    with st.container(horizontal=True, key="quantiser_figures"):
        low, high = (number(float(end)) for end in (used.scale.min(), used.scale.max()))
        st.metric("Scale" if one else "Scales", low if one else f"{used.scale.size:,}", border=True,
                  help="The step between two neighbouring values." if one else f"From {low} to {high}.")  # fmt: skip
        if not scheme.symmetric:
            least, most = int(used.zero_point.min()), int(used.zero_point.max())
            said = number(least) if least == most else f"{number(least)} … {number(most)}"
            st.metric("Zero-point" if one else "Zero-points", said, border=True, help="The code that stands for 0.")
        st.metric("Mean squared error", number(damage.mse), border=True, help="Mean of (ŵ − w)².")
        st.metric("Largest error", number(damage.max_error), border=True, help="Rounding alone costs half a step.")
        st.metric("SQNR", sqnr, border=True, help="Signal to quantisation noise: 10·log10(Σw² / Σ(ŵ − w)²). A bit more "
                  "is about 6 dB more.")  # fmt: skip
        st.metric("Clipped", f"{damage.clipped:,}", border=True, help="Weights beyond the last code, clamped to it.")
        st.metric("Memory", bytes_text(size.total), border=True, help=f"Codes, scales and zero-points; {stored:,} B as "
                  "the matrix is stored now.")  # fmt: skip
