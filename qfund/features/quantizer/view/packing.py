"""How codes of fewer than eight bits become bytes, and what all of the matrix takes."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from qfund.core.units import bytes_text
from qfund.drawing.palette import PALETTE
from qfund.features.quantizer.request import linear
from qfund.features.quantizer.request.linear import Codes, Scheme

#: Codes that are shown on their way into bytes.
_SHOWN = 8
_COURSE = np.array([[1, 0, 3, 2]], np.uint8)


def draw(codes: Codes, cell: tuple[int, int], scheme: Scheme, shape: tuple[int, ...], stored: int) -> None:
    st.header("Bytes", anchor=False)
    size = linear.stored_bytes((shape[0], shape[1]), scheme)
    bits = 8 * size.total / (shape[0] * shape[1])
    zeros = "" if scheme.symmetric else f" + {size.zero_points:,} B of zero-points (a byte each)"
    st.markdown(
        f"{size.codes:,} B of packed codes + {size.scales:,} B of scales (float32){zeros} = **{size.total:,} B**, "
        f"{bits:.4g} bits a weight. Stored now: {bytes_text(stored)}, "
        f"**{stored / size.total:.2f}×** as much."
    )
    if scheme.bits == 8:
        st.caption("A code of 8 bits is a byte: nothing is packed. Choose fewer bits to see how codes share bytes.")
        return
    start = cell[1] // _SHOWN * _SHOWN
    row = codes[cell[0] : cell[0] + 1, start : start + _SHOWN]
    counted = linear.unsigned(row, scheme)
    st.markdown(
        f"Codes are counted from −{-scheme.q_min}, so that they need no sign, and put into bytes from the lowest bits "
        "up. Each colour is one code:"
    )
    st.html(_steps(row, counted, scheme))
    if scheme.bits not in (2, 4):
        planes = " + ".join(str(width) for width in (4, 2, 1) if scheme.bits & width)
        st.caption(
            f"{scheme.bits} bits do not divide a byte: each code is split into {planes} bits, lowest bits first, and "
            "each row of parts is packed by itself."
        )
    if scheme.bits == 2:
        byte = int(linear.pack(_COURSE, 2)[0, 0])
        st.caption(f"The course packs [1, 0, 3, 2] in 2 bits: {byte:08b} in binary, which is {byte}.")


def _steps(row: Codes, counted: NDArray[np.uint8], scheme: Scheme) -> str:
    """Integers only go into this HTML."""
    squares = "".join(
        _box(_color(place), f"{int(code)}", f"→ {int(whole)} → {int(whole):0{scheme.bits}b}")
        for place, (code, whole) in enumerate(zip(row[0], counted[0], strict=True))
    )
    packed, place = "", 0
    low = 0
    for width in (4, 2, 1):
        if not scheme.bits & width:
            continue
        part = ((counted >> low) & ((1 << width) - 1)).astype(np.uint8)
        per = 8 // width
        for index, byte in enumerate(linear.pack(part, width)[0]):
            bits = ""
            for slot in reversed(range(per)):
                place = index * per + slot
                text = f"{(int(byte) >> (slot * width)) & ((1 << width) - 1):0{width}b}"
                used = place < part.shape[1]
                color = _color(place) if used else "var(--st-border-color, #8884)"
                style = f"background:{color}38;border-bottom:3px solid {color};padding:0 .25em"
                bits += f'<span style="{style}">{text}</span>'
            packed += (
                '<div style="display:inline-block;margin:0 1.2em .5em 0;white-space:nowrap">'
                f'<span style="font-family:monospace;letter-spacing:.05em">{bits}</span>'
                f'<span style="opacity:.75"> = {int(byte)}</span></div>'
            )
        low += width
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:.4em;margin-bottom:.7em">{squares}</div>'
        f'<div style="font-variant-numeric:tabular-nums">{packed}</div>'
    )


def _color(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def _box(color: str, code: str, bits: str) -> str:
    return (
        f'<div style="border:1px solid {color};border-bottom-width:3px;border-radius:6px;padding:.1em .6em;'
        f'font-variant-numeric:tabular-nums"><b>{code}</b> '
        f'<span style="opacity:.75;font-family:monospace">{bits}</span></div>'
    )
