"""ggml's K types: 256 weights of a row share one or two 16-bit scales, and 16 or 32 of them small integers of these.

Each encoder takes [blocks, 256] float32 and gives [blocks, bytes] uint8 as ``ggml-quants.c`` lays them out. ``weights``
of the same shape say what an error of each costs, where an importance matrix is given; ggml then searches otherwise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.precisions.quantizers.ggml.search import (
    NOTHING,
    Affine,
    Floats,
    affine,
    descended,
    furthest,
    positive,
    symmetric,
    symmetric_codes,
    total,
)

Bytes = NDArray[np.uint8]
Codes = NDArray[np.integer[Any]]
SIZE = 256


def columns(x: Floats, size: int) -> Floats:
    """[blocks, 256] → [size, 256 / size · blocks]: each run of ``size`` weights a column."""
    return np.ascontiguousarray(x.reshape(-1, size).T)


def _rows(codes: Floats) -> Codes:
    """The inverse of ``columns``: [blocks, 256] uint8."""
    return np.ascontiguousarray(codes.astype(np.uint8).T).reshape(-1, SIZE)


def _half(values: Floats) -> Bytes:
    """[blocks] float32 → [blocks, 2] bytes of float16."""
    return values.astype("<f2")[:, None].view(np.uint8)


def _as_half(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def _pairs(codes: Codes) -> Codes:
    """[blocks, 256] codes of 4 bits → [blocks, 128]: of each 64, the second 32 in the high bits."""
    parts = codes.reshape(-1, 4, 2, 32)
    return (parts[:, :, 0] | parts[:, :, 1] << 4).reshape(-1, 128)


def _quads(codes: Codes) -> Codes:
    """[blocks, 256] codes of 2 bits → [blocks, 64]: of each 128, four times 32 beside each other."""
    parts = codes.reshape(-1, 2, 4, 32)
    return (parts[:, :, 0] | parts[:, :, 1] << 2 | parts[:, :, 2] << 4 | parts[:, :, 3] << 6).reshape(-1, 64)


def _affine_codes(x: Floats, scale: Floats, minimum: Floats, top: int, found: Affine) -> Codes:
    """The codes for the scales as they are stored; those that the search ended with where a scale is stored as zero."""
    codes = (x + minimum) / scale
    none = scale == 0
    if none.any():
        codes[:, none] = found.inverse[none] * (x[:, none] - found.origin[none])
    np.rint(codes, out=codes)
    return _rows(np.clip(codes, 0, top, out=codes))


def _symmetric_codes(x: Floats, scale: Floats, top: int) -> Floats:
    codes = x / scale
    np.rint(codes, out=codes)
    return np.clip(codes, -top, top - 1, out=codes)


def important(x: Floats, weights: Floats, top: int) -> Affine:
    """``affine`` as ggml calls it where an importance matrix is given."""
    return affine(x, weights, top, -0.9, 0.05, 36, absolute=False)


def q2_k(x: Floats, weights: Floats | None = None) -> Bytes:
    """84 bytes: 16 scales and minima of 4 bits, codes of 2, two float16."""
    blocks = columns(x, 16)
    if weights is None:
        found, sums = affine(blocks, np.abs(blocks), 3, -0.5, 0.1, 15, absolute=True), None
    else:
        cost = columns(weights, 16)
        found, sums = important(blocks, cost, 3), total(cost)
    scales, d = _small(found.scale.reshape(-1, 16), 15, sums)
    minima, least = _small(-found.minimum.reshape(-1, 16), 15, sums)
    real = _as_half(d)[:, None] * scales, _as_half(least)[:, None] * minima
    codes = _affine_codes(blocks, real[0].ravel(), real[1].ravel(), 3, found)
    packed = scales.astype(np.uint8) | minima.astype(np.uint8) << 4
    return np.concatenate([packed, _quads(codes), _half(d), _half(least)], 1)


def _small(values: Floats, top: int, sums: Floats | None) -> tuple[Floats, Floats]:
    """[blocks, n] ≥ 0 → whole numbers up to ``top``, as floats, and what one of them stands for; ``sums`` [blocks · n]
    are the weights that each value is for."""
    if sums is not None:
        step, found = positive(np.ascontiguousarray(values.T), np.ascontiguousarray(sums.reshape(values.shape).T), top)
        return np.ascontiguousarray(found.T), step
    most = np.maximum(values.max(axis=1), np.float32(0))
    inverse = np.where(most > 0, np.float32(top) / most, np.float32(0))
    codes = np.clip(np.rint(inverse[:, None] * values), 0, top)
    return codes, most / np.float32(top)


def q3_k(x: Floats, weights: Floats | None = None) -> Bytes:
    """110 bytes: the codes' third bits, their lower two, 16 scales of 6 bits, one float16."""
    blocks = columns(x, 16)
    if weights is None:
        scale, first = descended(blocks, 4)
        scale = scale.reshape(-1, 16)
        extreme = furthest(scale.T)
        inverse = np.float32(-32) / extreme
        d = np.where(extreme != 0, 1 / inverse, np.float32(0))
        scales = np.clip(np.rint(inverse[:, None] * scale), -32, 31)
        scales = np.where(extreme[:, None] != 0, scales, np.float32(-32))  # bytes of zeros
    else:
        cost = columns(weights, 16)
        scale, inverse = symmetric(blocks, cost, 4, 9)
        first = symmetric_codes(blocks, inverse, 4)
        parts = np.ascontiguousarray(scale.reshape(-1, 16).T)
        d, inverse = symmetric(parts, np.ascontiguousarray(total(cost).reshape(-1, 16).T), 32, 9)
        scales = np.ascontiguousarray(symmetric_codes(parts, inverse, 32).T)
    real = (_as_half(d)[:, None] * scales).ravel()
    codes = np.where(real != 0, _symmetric_codes(blocks, real, 4), first)
    biased = _rows(codes + np.float32(4))
    thirds = (biased >> 2).reshape(-1, 8, 32)
    high = np.bitwise_or.reduce(thirds << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    stored = (scales + 32).astype(np.uint8)
    low = stored[:, :8] & 15 | (stored[:, 8:] & 15) << 4
    rest = (stored >> 4).reshape(-1, 4, 4)
    upper = rest[:, 0] | rest[:, 1] << 2 | rest[:, 2] << 4 | rest[:, 3] << 6
    return np.concatenate([high, _quads(biased & 3), low, upper, _half(d)], 1)


def q4_k(x: Floats, weights: Floats | None = None) -> Bytes:
    """144 bytes: two float16, 8 scales and minima of 6 bits, codes of 4."""
    head, codes = _with_minima(x, weights, 15, -1.0, 20)
    return np.concatenate([head, _pairs(codes)], 1)


def q5_k(x: Floats, weights: Floats | None = None) -> Bytes:
    """176 bytes: two float16, 8 scales and minima of 6 bits, the codes' fifth bits, their lower four."""
    head, codes = _with_minima(x, weights, 31, -0.5, 15)
    fifths = (codes >> 4).reshape(-1, 8, 32)
    high = np.bitwise_or.reduce(fifths << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return np.concatenate([head, high, _pairs(codes & 15)], 1)


def _with_minima(x: Floats, weights: Floats | None, top: int, first: float, steps: int) -> tuple[Bytes, Codes]:
    """What precedes the codes of Q4_K and Q5_K, and the codes."""
    blocks = columns(x, 32)
    if weights is None:
        magnitudes = np.abs(blocks)
        average = np.sqrt(total(blocks * blocks) / np.float32(32))
        cost = np.add(magnitudes, average, out=magnitudes)
        found, sums = affine(blocks, cost, top, first, 0.1, steps, absolute=False), None
    else:
        cost = columns(weights, 32)
        found, sums = important(blocks, cost, top), total(cost)
    scales, d = _small(found.scale.reshape(-1, 8), 63, sums)
    minima, least = _small(-found.minimum.reshape(-1, 8), 63, sums)
    real = _as_half(d)[:, None] * scales, _as_half(least)[:, None] * minima
    codes = _affine_codes(blocks, real[0].ravel(), real[1].ravel(), top, found)
    a, b = scales.astype(np.uint8), minima.astype(np.uint8)
    six = [a[:, :4] | a[:, 4:] >> 4 << 6, b[:, :4] | b[:, 4:] >> 4 << 6, a[:, 4:] & 15 | (b[:, 4:] & 15) << 4]
    return np.concatenate([_half(d), _half(least), *six], 1), codes


def q6_k(x: Floats, weights: Floats | None = None) -> Bytes:
    """210 bytes: the codes' lower four bits, their upper two, 16 scales of 8 bits, one float16."""
    blocks = columns(x, 16)
    scale, inverse = symmetric(blocks, blocks * blocks if weights is None else columns(weights, 16), 32, 9)
    scale = scale.reshape(-1, 16)
    extreme = furthest(scale.T)
    nothing = np.abs(extreme) < NOTHING
    inverse_d = np.float32(-128) / extreme
    d = np.where(nothing, np.float32(0), 1 / inverse_d)
    scales = np.where(nothing[:, None], np.float32(0), np.minimum(np.rint(inverse_d[:, None] * scale), np.float32(127)))
    real = (_as_half(d)[:, None] * scales).ravel()
    codes = _symmetric_codes(blocks, real, 32)
    if (none := real == 0).any():
        codes[:, none] = symmetric_codes(blocks[:, none], inverse[none], 32)
    biased = _rows(codes + np.float32(32))
    biased[nothing] = 0
    parts = biased.reshape(-1, 2, 4, 32)
    low = np.stack([parts[:, :, 0] & 15 | parts[:, :, 2] << 4, parts[:, :, 1] & 15 | parts[:, :, 3] << 4], 2)
    return np.concatenate(
        [low.reshape(-1, 128), _quads(biased >> 4), scales.astype(np.int8).view(np.uint8), _half(d)], 1
    )
