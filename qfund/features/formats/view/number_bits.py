"""The bits of a number as buttons, in the fields that its format gives them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import streamlit as st

from qfund.drawing.palette import PALETTE, ink
from qfund.features.formats.request.formats import CODEBOOK, FLOAT, Format
from qfund.features.formats.request.rounding import decode
from qfund.ui.components import component

KEY = "number_bits"

_ASSETS = Path(__file__).parent / "assets"

_SIGN, _EXPONENT, _FRACTION = PALETTE[1], PALETTE[2], PALETTE[0]


def fields(row: Format, code: int) -> list[dict[str, object]]:
    """The fields of ``code``, from the highest bit down, with what each of them says."""
    bits, found = f"{code:0{row.bits}b}", decode(row, code)
    if row.kind == CODEBOOK:
        return [_field("place in the table", bits, f"number {code} of 0 to {row.codes - 1}", _FRACTION)]
    if row.kind != FLOAT:
        weights = [f"{'−' * (place == row.bits - 1)}{1 << place}" for place in reversed(range(row.bits))]
        says = "two's complement: the sum of what stands under the ones"
        return [_field("whole number", bits, says, _FRACTION) | {"weights": weights}]
    sign = "negative" if found.sign else "positive"
    exponent, whole = found.exponent, 1 << row.fraction
    if found.kind in ("infinity", "NaN"):
        power = "all ones: not finite" if row.infinite else f"{exponent} − {row.bias} = {exponent - row.bias}"
        part = found.kind if row.infinite else "all ones, with the exponent's: NaN"
    elif exponent:
        power = f"{exponent} − {row.bias} = {_signed(exponent - row.bias)}"
        part = f"1 + {found.fraction:,} / {whole:,}" if found.fraction else "1"
    else:
        power = f"all zeros: 2 to the {_signed(1 - row.bias)}, without a leading 1"
        part = f"{found.fraction:,} / {whole:,}" if found.fraction else "0"
    return [
        _field("sign", bits[0], sign, _SIGN),
        _field("exponent", bits[1 : 1 + row.exponent], power, _EXPONENT),
        _field("fraction", bits[1 + row.exponent :], part, _FRACTION),
    ]


def _field(name: str, bits: str, says: str, color: str) -> dict[str, object]:
    return {"name": name, "bits": bits, "says": says, "colour": color, "ink": ink(color)}


def _signed(value: int) -> str:
    return f"−{-value}" if value < 0 else str(value)


def bits(row: Format, code: int, turned: Callable[[], None]) -> None:
    """Draw them; ``turned`` is called when somebody turns one over."""
    data = msgspec.json.encode({"format": row.name, "fields": fields(row, code)})
    component(_ASSETS, "number_bits")(data=data, key=KEY, on_bits_change=turned)


def turned_to() -> tuple[str, int] | None:
    """The format and the bits that somebody clicked last, or None if the message is malformed."""
    found = getattr(st.session_state.get(KEY), "bits", None)
    name, text = (found.get("format"), found.get("bits")) if isinstance(found, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(text, str) or not 0 < len(text) <= 64 or set(text) - {"0", "1"}:
        return None
    return name, int(text, 2)
