"""Every bit of every format, exactly: ``decode`` says what a bit pattern is, ``encode`` rounds a number once, half to
even, and ``cast`` does the same for arrays with NumPy and ``ml_dtypes``.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qfund.features.formats.request.formats import CODEBOOK, FLOAT, INFINITY, INTEGER, LARGEST, Format
from qfund.features.formats.request.numbers import Number, floor_log2, power_of_two

Doubles: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a bit pattern is. ``kind``: normal, subnormal, zero, infinity, NaN, integer or level (of a codebook)."""

    value: Number
    kind: str
    sign: int
    exponent: int
    fraction: int


def decode(row: Format, code: int) -> Decoded:
    """What the bit pattern ``code`` (0 … 2**bits − 1) stands for."""
    assert 0 <= code < row.codes, f"{row.label} has no pattern {code}"
    sign = code >> (row.bits - 1)
    if row.kind != FLOAT:
        kind = "integer" if row.kind == INTEGER else "level"
        return Decoded(row._finite(code), kind, sign if row.kind == INTEGER else 0, 0, code)
    field = (code >> row.fraction) & ((1 << row.exponent) - 1)
    part = code & ((1 << row.fraction) - 1)
    magnitude = code & ((1 << (row.bits - 1)) - 1)
    if magnitude > row._last:
        infinite = row.infinite and not part
        value: Number = (-math.inf if sign else math.inf) if infinite else math.nan
        return Decoded(value, "infinity" if infinite else "NaN", sign, field, part)
    kind = "normal" if field else "subnormal" if part else "zero"
    return Decoded(-0.0 if sign and not magnitude else row._finite(code), kind, sign, field, part)


def encode(row: Format, value: Number) -> int | None:
    """The bit pattern nearest to ``value``, halves to even; None where the format has nothing like it (no NaN)."""
    if isinstance(value, float):
        if math.isnan(value):
            return row.codes // 2 - 1 if row.nan else None
        if math.isinf(value):
            return _beyond(row, value < 0)
        if value or row.kind != FLOAT:
            return encode(row, Fraction(value))
        return row.codes // 2 if math.copysign(1, value) < 0 else 0
    if row.kind == INTEGER:
        return min(max(round(value), int(row.lowest)), int(row.largest)) % row.codes
    if row.kind == CODEBOOK:
        return bisect_left(_halfways(row), value)
    size = abs(value)
    exponent = max(floor_log2(size), 1 - row.bias) if size else 1 - row.bias
    units = round(size / power_of_two(exponent - row.fraction))  # half to even
    # A fraction that is rounded up to 2 carries into the exponent by itself.
    code = units if exponent == 1 - row.bias else ((exponent + row.bias - 1) << row.fraction) + units
    if code > row._last:
        return _beyond(row, value < 0)
    return code + (row.codes // 2 if value < 0 else 0)


def _beyond(row: Format, negative: bool) -> int:
    """The pattern of what is too large."""
    if row.kind != FLOAT:
        return {True: 0 if row.kind == CODEBOOK else row.codes // 2, False: row._last}[negative]
    return row._last + (row.beyond == INFINITY) + (row.codes // 2 if negative else 0)


def _halfways(row: Format) -> list[Fraction]:
    """Between neighbouring values of a codebook, as far as float32 can tell: as ``quantizers.codebook``."""
    levels = np.array(row.values, np.float32)
    return [Fraction(float(value)) for value in (levels[:-1] + levels[1:]) / np.float32(2)]


def cast(row: Format, values: NDArray[np.float32]) -> Doubles:
    """What ``values`` become in the format, as doubles: what ``encode`` and ``decode`` give for each."""
    found: NDArray[Any]
    with np.errstate(over="ignore", invalid="ignore"):
        if row.kind == INTEGER:
            found = np.clip(np.rint(values), float(row.lowest), float(row.largest))
        elif row.kind == CODEBOOK:
            levels = np.array(row.values, np.float32)
            found = levels[np.searchsorted((levels[:-1] + levels[1:]) / np.float32(2), values, "left")]
        elif row.dtype is None:
            found = _as_tf32(values)
        elif row.beyond == LARGEST:
            largest = np.float32(row.largest)
            found = np.clip(values, -largest, largest).astype(row.dtype)
        else:
            found = values.astype(row.dtype)
    return found.astype(np.float64)


def _as_tf32(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 with 13 fraction bits fewer, half to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
