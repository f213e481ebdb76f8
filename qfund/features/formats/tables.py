"""Frames of number formats: what each makes of a number, what it can hold, and where weights fall in it. Pure."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qfund.features.formats.request.formats import FLOAT, FORMATS, INTEGER, Format
from qfund.features.formats.request.formats import per_power_of_two as powers
from qfund.features.formats.request.numbers import Number, decimals, exact, short
from qfund.features.formats.request.rounding import cast, decode, encode

#: How weights come into a format.
RAW, SCALED = "raw", "scaled"
SCALINGS = {
    RAW: "cast as they are",
    SCALED: "scaled first: the largest weight becomes the format's largest number, where it has 8 bits or fewer",
}
#: Formats that quantisers scale for.
_SCALED_BITS = 8
#: Formats whose different values are counted, and weights that are looked at in double precision at once.
_COUNTED_BITS, _AT_ONCE = 16, 2**20
_WIDE = 60  # decimals, as in the course
_ALIGNED = (Fraction(1, 10**20), Fraction(10**15))  # numbers whose decimals are written under each other


def of_number(value: Number) -> pd.DataFrame:
    """What every format makes of a number: bits, the value they stand for, the relative error, and what happened."""
    rows: list[dict[str, object]] = []
    for row in FORMATS.values():
        code = encode(row, value)
        if code is None:
            rows.append({"name": row.name, "label": row.label, "happened": "has no NaN"})
            continue
        found = decode(row, code)
        rows.append(
            {
                "name": row.name,
                "label": row.label,
                "code": f"0x{code:0{-(-row.bits // 4)}X}",
                "value": short(found.value, 17),
                "error": _relative(found.value, value),
                "happened": happened(row, value, found.value),
            }
        )
    return pd.DataFrame(rows)


def _relative(found: Number, value: Number) -> float:
    if not _finite(value) or not _finite(found):
        return math.nan
    exactly = Fraction(value)
    if not exactly:
        return 0.0
    return float(abs((Fraction(found) - exactly) / exactly))


def _finite(value: Number) -> bool:
    return isinstance(value, Fraction) or math.isfinite(value)


def happened(row: Format, value: Number, found: Number) -> str:
    """In a few words, what the format did to ``value``."""
    if not _finite(value):
        if isinstance(value, float) and math.isnan(value):
            return "NaN"
        return "infinity" if not _finite(found) else f"no infinity: {short(found)}"
    if not _finite(found):
        return "too large: infinity"
    exactly, became = Fraction(value), Fraction(found)
    if exactly == became:
        subnormal = row.smallest_normal is not None and 0 < abs(became) < row.smallest_normal
        return "exact, subnormal" if subnormal else "exact"
    if exactly > row.largest or exactly < row.lowest:
        return f"too large: held at {short(found)}"
    if not became:
        return "too small: zero"
    if row.smallest_normal is not None and abs(became) < row.smallest_normal:
        return "rounded, subnormal"
    return "rounded"


def digits(value: Number) -> str:
    """The number and what each format makes of it, to 60 decimals, under each other; as powers of ten far from one."""
    plain = not _finite(value) or not value or _ALIGNED[0] <= abs(Fraction(value)) < _ALIGNED[1]
    width = max(len(row.label) for row in FORMATS.values())
    lines = [("exactly", decimals(value, _WIDE) if plain else exact(value, _WIDE))]
    for row in FORMATS.values():
        code = encode(row, value)
        found = None if code is None else decode(row, code).value
        text = "–" if found is None else decimals(found, _WIDE) if plain else exact(found, _WIDE)
        lines.append((row.label, text))
    if plain:  # zeros at the end of every line say nothing
        kept = max(len(text.partition(".")[2].rstrip("0")) for _, text in lines)
        lines = [(name, f"{whole}.{rest[: max(kept, 1)]}" if rest else whole) for name, text in lines
                 for whole, _, rest in [text.partition(".")]]  # fmt: skip
    # Points under each other.
    before = max(len(text.partition(".")[0]) for _, text in lines)
    return "\n".join(f"{name:{width}}  {' ' * (before - len(text.partition('.')[0]))}{text}" for name, text in lines)


def ranges() -> pd.DataFrame:
    """What every format can hold."""
    return pd.DataFrame(
        {
            "name": row.name,
            "label": row.label,
            "bits": row.bits,
            "fields": _fields(row),
            "largest": short(row.largest),
            "normal": None if row.smallest_normal is None else short(row.smallest_normal),
            "smallest": short(row.smallest),
            "epsilon": None if row.epsilon is None else short(row.epsilon),
            "finite": f"{row.finite:,}" if row.finite < 10**7 else short(Fraction(row.finite), 4),
            "special": _special(row),
            "meaning": f"{row.meaning} {row.note}".strip(),
        }
        for row in FORMATS.values()
    )


def _fields(row: Format) -> str:
    if row.kind == FLOAT:
        return f"1 + {row.exponent} + {row.fraction}"
    return "two's complement" if row.kind == INTEGER else "a place in a table"


def _special(row: Format) -> str:
    if row.infinite:
        return "±∞, NaN"
    return "NaN" if row.nan else "none"


def per_power_of_two() -> pd.DataFrame:
    """How many positive values every format has from 2^k to 2^(k + 1)."""
    return pd.DataFrame(
        {"name": row.name, "label": row.label, "power": power, "count": float(count)}
        for row in FORMATS.values()
        for power, count in powers(row)
    )


def _scale(row: Format, weights: NDArray[np.float32], scaling: str) -> float:
    """What weights are divided by first: the scale is a float32, as quantisers store it."""
    largest = float(np.abs(weights).max(initial=0.0))
    if scaling == RAW or row.bits > _SCALED_BITS or not largest:
        return 1.0
    return max(float(np.float32(largest / float(row.largest))), float(np.finfo(np.float32).tiny))


def of_weights(weights: NDArray[np.float32], scaling: str) -> pd.DataFrame:
    """Where finite weights fall in every format: shares in %, counted over all weights.

    Columns: ``overflow`` (beyond the largest by more than rounding: infinite or clamped), ``zero`` (not zero, but the
    format makes them so), ``subnormal`` (kept, with fewer digits), ``error`` (mean |ŵ − w| / |w| over weights that are
    neither zero nor became infinite), ``used`` (different values that occur, of formats of 16 bits and fewer),
    ``scale``.
    """
    flat = weights.ravel()
    return pd.DataFrame(_of_weights(row, flat, _scale(row, flat, scaling)) for row in FORMATS.values())


def _of_weights(row: Format, flat: NDArray[np.float32], scale: float) -> dict[str, Any]:
    counts = np.zeros(4, np.int64)
    error, used = 0.0, np.array([])
    bottom, top = -_reach(row, -row.lowest), _reach(row, row.largest)
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        exactly = part.astype(np.float64)
        units = cast(row, part / np.float32(scale) if scale != 1 else part)  # divided in float32, as quantisers do
        there, back = exactly != 0, np.isfinite(units)
        beyond = ~back | (exactly / scale > top) | (exactly / scale < bottom)
        stays = there & back
        # Of the value that the format holds: what is rounded up to a normal number is one.
        small = there & (units != 0) & (np.abs(units) < float(row.smallest_normal or 0))
        counts += [np.count_nonzero(which) for which in (beyond, there & (units == 0), small, stays)]
        error += float((np.abs(units[stays] * scale - exactly[stays]) / np.abs(exactly[stays])).sum())
        if row.bits <= _COUNTED_BITS:
            used = np.unique(np.concatenate([used, units[back]]))
    beyond_all, zeros, subnormal, kept = (int(count) for count in counts)
    share = 100 / flat.size
    return {
        "name": row.name,
        "label": row.label,
        "overflow": share * beyond_all,
        "zero": share * zeros,
        "subnormal": math.nan if row.smallest_normal is None else share * subnormal,
        "error": 100 * error / kept if kept else 0.0,
        "used": len(used) if row.bits <= _COUNTED_BITS else math.nan,
        "scale": scale,
    }


def _reach(row: Format, end: Fraction) -> float:
    """From where on a number is rounded beyond ``end``: half a step further."""
    if row.kind == FLOAT:
        step = Fraction(2) ** (math.frexp(float(row.largest))[1] - 1 - row.fraction)
    else:
        step = Fraction(row.kind == INTEGER)
    try:
        return float(end + step / 2)
    except OverflowError:  # no double lies beyond FP64
        return math.inf


def sizes(weights: NDArray[np.float32], scaled: bool = False) -> pd.DataFrame:
    """How many weights lie from 2^k to 2^(k + 1), for every k in between; share in %, zeros left out."""
    size = np.abs(weights[weights != 0]).astype(np.float64)
    if not size.size:
        return pd.DataFrame({"power": [], "share": []})
    power = np.frexp(size)[1] - 1
    counts = np.bincount(power - power.min())
    return pd.DataFrame(
        {"power": np.arange(power.min(), power.min() + len(counts)), "share": 100 * counts / weights.size}
    )


def spans(names: Iterable[str], weights: NDArray[np.float32], scaling: str) -> pd.DataFrame:
    """From which power of two to which every format reaches, in units of the weights: normal and subnormal."""
    rows = []
    for name in names:
        row = FORMATS[name]
        shift = math.log2(_scale(row, weights, scaling))
        smallest = math.log2(row.smallest.numerator) - math.log2(row.smallest.denominator)
        normal = row.smallest_normal
        first = smallest if normal is None else float(math.log2(normal.numerator) - math.log2(normal.denominator))
        rows.append(
            {
                "name": name,
                "label": row.label,
                "smallest": smallest + shift,
                "normal": first + shift,
                "largest": math.log2(row.largest) + shift,
            }
        )
    return pd.DataFrame(rows)
