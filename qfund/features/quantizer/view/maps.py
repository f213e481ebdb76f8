"""Heat maps, histogram, formulas and sliders of the linear quantiser: one component that redraws as a slider moves."""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import streamlit as st

from qfund.drawing.palette import OTHER, PALETTE
from qfund.features.quantizer import words
from qfund.features.quantizer.request import linear
from qfund.features.quantizer.request.linear import Codes, Floats, Parameters, Scheme
from qfund.features.quantizer.words import Formula
from qfund.ui.components import component

KEY = "quantiser_maps"

_ASSETS = Path(__file__).parent / "assets"

#: Rows and columns of a picture; of larger matrices every n-th is shown.
_SHOWN = 256
_BINS = 120
_FEW = 4096  # weights; among fewer the largest is seen
_COLORS = {"low": PALETTE[1], "high": PALETTE[0], "weights": OTHER, "grid": PALETTE[0], "beyond": PALETTE[1]}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One matrix quantised, as the browser draws it.

    Attributes:
        used, chosen: the parameters in force, and those of the rule.
        first: row and column of the first weight within its matrix.
        cell: of the weight that is worked through, with the ``formulas`` that do it.
        serial: of the move that this answers.
    """

    weight: Floats
    codes: Codes
    used: Parameters
    chosen: Parameters
    scheme: Scheme
    first: tuple[int, int]
    cell: tuple[int, int]
    own: bool
    formulas: list[Formula]
    serial: int
    id: str


def payload(drawn: Drawn) -> bytes:
    """What the component needs: length of a header, the header (JSON), weights, scales, zero-points and codes."""
    scheme, (rows, columns) = drawn.scheme, drawn.weight.shape
    every_row, every = math.ceil(rows / _SHOWN), math.ceil(columns / _SHOWN)
    weight, codes = (matrix[::every_row, ::every] for matrix in (drawn.weight, drawn.codes))
    whole = scheme.granularity == "tensor"
    scale, zero_point = (part if whole else part[::every_row] for part in (drawn.used.scale, drawn.used.zero_point))
    header = {
        "id": drawn.id,
        "serial": drawn.serial,
        "rows": weight.shape[0],
        "columns": weight.shape[1],
        "everyRow": every_row,
        "every": every,
        "first": drawn.first,
        "parts": scale.size,
        "size": scheme.size(columns),
        "qMin": scheme.q_min,
        "qMax": scheme.q_max,
        "symmetric": scheme.symmetric,
        "own": drawn.own,
        "scale": float(drawn.used.scale[0, 0]) if whole else None,
        "zero": int(drawn.used.zero_point[0, 0]) if whole else None,
        "chosen": {"scale": float(drawn.chosen.scale[0, 0]), "zero": int(drawn.chosen.zero_point[0, 0])},
        "cell": drawn.cell,
        "colours": _COLORS,
        "reach": _reach(drawn),
        "formulas": drawn.formulas,
        "histogram": histogram(drawn),
    }
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 4)
    arrays = (weight.astype("<f4"), scale.astype("<f4"), zero_point.astype("<i4"), codes)
    return b"".join([struct.pack("<I", len(encoded)), encoded, *(array.tobytes() for array in arrays)])


def _reach(drawn: Drawn) -> float:
    """The magnitude that has the full colour: of many weights not the largest, or all others would look alike."""
    size = np.abs(drawn.weight)
    return float(np.quantile(size[::4, ::4], 0.995) if size.size > _FEW else size.max()) or float(size.max()) or 1.0


def histogram(drawn: Drawn) -> dict[str, object]:
    """Counts of the weights that share a scale, the values that exist for them, and how many landed on each."""
    scheme = drawn.scheme
    weight, codes, title = words.part_of(drawn.weight, drawn.codes, scheme, drawn.cell)
    low, high = float(weight.min()), float(weight.max())
    margin = 0.04 * (high - low) or abs(low) / 2 or 1.0
    counts, _ = np.histogram(weight, _BINS, (low - margin, high + margin))
    place = linear.scale_index(*drawn.cell, drawn.weight.shape[1], scheme)
    landed = np.bincount(codes.ravel().astype(np.int16) - scheme.q_min, minlength=1 << scheme.bits)
    return {
        "title": title,
        "low": low - margin,
        "high": high + margin,
        "counts": counts.tolist(),
        "grid": linear.representable(drawn.used, scheme, *place).tolist(),
        "landed": landed.tolist(),
    }


def maps(data: bytes, moved: Callable[[], None]) -> None:
    """Draw what ``payload`` made; ``moved`` is called when somebody moves a slider or chooses a weight."""
    component(_ASSETS, "maps")(data=data, key=KEY, on_move_change=moved)


def move() -> dict[str, object]:
    """What somebody did last."""
    found = getattr(st.session_state.get(KEY), "move", None)
    return dict(found) if isinstance(found, dict) else {}
