"""ggml's IQ4 types: codes of four bits for 16 values that lie closer around zero, 32 weights to a scale.

Each encoder takes [blocks, weights of a block] float32 and gives [blocks, bytes] uint8, as ``ggml-quants.c`` lays them
out; ``weights`` as in ``k_types``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.precisions.quantizers.ggml.search import NOTHING, Floats, furthest, total

_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
#: Halfway from one value to the next lies at a multiple of a half: which value is nearest is known from ⌊2x⌋. The
#: upper one where x is halfway.
_HALVES = np.searchsorted((_VALUES[:-1] + _VALUES[1:]) / 2, np.arange(-256, 257) / 2, side="right").astype(np.uint8)
_NEAREST = _VALUES[_HALVES]
_TRIES = 7


def _scales(x: Floats, weights: Floats | None) -> Floats:
    """[32, blocks] → the scale of each block: that of the values which explain it best, weighted by x² or as given.

    The weight of the largest magnitude becomes 127 at first; then −127 + i for i from −7 to 7.
    """
    extreme = furthest(x)
    weights = x * x if weights is None else weights
    term, values = np.empty_like(x), np.empty_like(x)
    places = np.empty(x.shape, np.intp)

    def sums(inverse: Floats) -> tuple[Floats, Floats]:
        _places(x, inverse, term, places)
        np.take(_NEAREST, places, out=values, mode="clip")
        np.multiply(weights, values, out=term)
        sum_qx = total(term * x)
        return sum_qx, total(np.multiply(term, values, out=term))

    sum_qx, sum_q2 = sums(1 / (-extreme / _VALUES[0]))
    scale = sum_qx / sum_q2
    best = scale * sum_qx
    for number in range(-_TRIES, _TRIES + 1):
        sum_qx, sum_q2 = sums((np.float32(number) + _VALUES[0]) / extreme)
        better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2)
        scale = np.where(better, sum_qx / sum_q2, scale)
        best = np.where(better, scale * sum_qx, best)
    return np.where(np.abs(extreme) < NOTHING, np.float32(0), scale)


def _places(x: Floats, inverse: Floats, term: Floats, places: NDArray[np.intp]) -> None:
    """Where ``inverse`` · x lies in the tables; ``term`` is written over."""
    np.multiply(x, inverse, out=term)
    np.multiply(term, np.float32(2), out=term)
    np.floor(term, out=term)
    np.clip(term, -256, 256, out=term)
    np.add(term, np.float32(256), out=places, casting="unsafe")


def _codes(x: Floats, scale: Floats) -> NDArray[np.integer[Any]]:
    """[32, blocks] → [blocks, 16]: the first 16 codes in the low bits, the others in the high."""
    inverse = np.where(scale != 0, 1 / scale, np.float32(0))
    places = np.empty(x.shape, np.intp)
    _places(x, inverse, np.empty_like(x), places)
    codes = np.ascontiguousarray(_HALVES[places].T)
    return codes[:, :16] | codes[:, 16:] << 4


def iq4_nl(x: Floats, weights: Floats | None = None) -> NDArray[np.uint8]:
    """18 bytes for 32 weights: a float16, the codes."""
    blocks = np.ascontiguousarray(x.T)
    scale = _scales(blocks, None if weights is None else np.ascontiguousarray(weights.T))
    return np.concatenate([scale.astype("<f2")[:, None].view(np.uint8), _codes(blocks, scale)], 1)


def iq4_xs(x: Floats, weights: Floats | None = None) -> NDArray[np.uint8]:
    """136 bytes for 256 weights: a float16, 8 scales of 6 bits (the upper two of all first), the codes."""
    blocks = np.ascontiguousarray(x.reshape(-1, 32).T)
    scale = _scales(blocks, None if weights is None else np.ascontiguousarray(weights.reshape(-1, 32).T)).reshape(-1, 8)
    d = -furthest(scale.T) / np.float32(32)
    inverse = np.where(d != 0, 1 / d, np.float32(0))
    steps = np.clip(np.rint(inverse[:, None] * scale), -32, 31)
    codes = _codes(blocks, (d[:, None] * steps).ravel())
    stored = (steps + 32).astype(np.uint8)
    upper = np.bitwise_or.reduce((stored >> 4).astype(np.uint16) << np.arange(0, 16, 2, dtype=np.uint16), axis=1)
    lower = stored[:, ::2] & 15 | (stored[:, 1::2] & 15) << 4
    return np.concatenate(
        [
            d.astype("<f2")[:, None].view(np.uint8),
            upper.astype("<u2")[:, None].view(np.uint8),
            lower,
            codes.reshape(-1, 128),
        ],
        1,
    )
