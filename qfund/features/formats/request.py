"""The number formats that weights come in: every bit of each, exactly. One table; page, tests and figures iterate it.

Values are fractions, so nothing is rounded twice: ``encode`` rounds a number once, half to even, ``decode`` says what a
bit pattern is, and ``cast`` does the same for arrays with NumPy and ``ml_dtypes``.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from qfund.core.errors import InvalidInput
from qfund.core.names import look_up
from qfund.precisions.levels import NF4_VALUES

#: A number of any size, or what is none: ±inf, nan, and −0.0.
Number: TypeAlias = "Fraction | float"

Doubles: TypeAlias = NDArray[np.float64]

FLOAT, INTEGER, CODEBOOK = "float", "integer", "codebook"

#: What becomes of a number that is too large.
INFINITY, LARGEST = "infinity", "the largest"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        bits: of one value; of TF32 those that count, it takes 32 in memory.
        exponent, fraction: widths of the fields of a float; the rest is the sign.
        bias: what the exponent field is larger than the exponent.
        infinite, nan: whether all ones in the exponent mean infinity and NaN (IEEE 754), or only all ones everywhere
            NaN (E4M3), or nothing special (E2M1).
        beyond: what a number becomes that is too large: ``INFINITY`` or ``LARGEST``.
        precision: the row of ``qfund.precisions.table`` that stores weights so.
        dtype: NumPy's, where it or ``ml_dtypes`` has one.
    """

    name: str
    label: str
    kind: str
    bits: int
    meaning: str
    precision: str
    exponent: int = 0
    fraction: int = 0
    bias: int = 0
    infinite: bool = False
    nan: bool = False
    beyond: str = LARGEST
    values: tuple[float, ...] = ()
    dtype: Any = None
    said: str = ""

    @property
    def codes(self) -> int:
        """How many bit patterns there are."""
        return 1 << self.bits

    @cached_property
    def largest(self) -> Fraction:
        """The largest finite number."""
        return self._finite(self._last)

    @cached_property
    def lowest(self) -> Fraction:
        """The most negative one."""
        if self.kind == INTEGER:
            return Fraction(-(1 << (self.bits - 1)))
        return -self.largest

    @property
    def smallest_normal(self) -> Fraction | None:
        """The smallest positive number with all its fraction bits; integers and codebooks have none."""
        return _power(1 - self.bias) if self.kind == FLOAT else None

    @cached_property
    def smallest(self) -> Fraction:
        """The smallest positive number; of a float subnormal."""
        if self.kind == FLOAT:
            return _power(1 - self.bias - self.fraction)
        return Fraction(1) if self.kind == INTEGER else min(Fraction(value) for value in self.values if value > 0)

    @property
    def epsilon(self) -> Fraction | None:
        """The distance from 1 to the next larger number; a codebook ends at 1."""
        return None if self.kind == CODEBOOK else _power(-self.fraction)

    @cached_property
    def finite(self) -> int:
        """How many different finite numbers there are; +0 and −0 are one."""
        if self.kind == FLOAT:
            return 2 * self._last + 1
        return self.codes

    @property
    def _last(self) -> int:
        """The bit pattern of the largest finite number."""
        if self.kind == INTEGER:
            return (1 << (self.bits - 1)) - 1
        if self.kind == CODEBOOK:
            return self.codes - 1
        top = (1 << (self.exponent + self.fraction)) - 1
        return top - (1 << self.fraction) if self.infinite else top - self.nan

    def _finite(self, code: int) -> Fraction:
        if self.kind == CODEBOOK:
            return Fraction(self.values[code])
        if self.kind == INTEGER:
            return Fraction(code - (self.codes if code >> (self.bits - 1) else 0))
        field = (code >> self.fraction) & ((1 << self.exponent) - 1)
        part = code & ((1 << self.fraction) - 1)
        whole = part + (1 << self.fraction if field else 0)
        value = whole * _power(max(field, 1) - self.bias - self.fraction)
        return -value if code >> (self.bits - 1) else value


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a bit pattern is. ``kind``: normal, subnormal, zero, infinity, NaN, integer or level (of a codebook)."""

    value: Number
    kind: str
    sign: int
    exponent: int
    fraction: int


def _power(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def _ieee(name: str, label: str, exponent: int, fraction: int, meaning: str, dtype: Any, **more: Any) -> Format:
    return Format(
        name=name,
        label=label,
        kind=FLOAT,
        bits=1 + exponent + fraction,
        meaning=meaning,
        precision=more.pop("precision", name),
        exponent=exponent,
        fraction=fraction,
        bias=(1 << (exponent - 1)) - 1,
        infinite=True,
        nan=True,
        beyond=INFINITY,
        dtype=dtype,
        **more,
    )


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        _ieee("fp64", "FP64", 11, 52, "Double precision, Python's own float.", np.float64),
        _ieee("fp32", "FP32", 8, 23, "Single precision: what models are usually trained in.", np.float32),
        _ieee(
            "tf32",
            "TF32",
            8,
            10,
            "What NVIDIA's tensor cores multiply instead of FP32: its range, FP16's digits.",
            None,
            said="19 bits that count, stored in 32. Rounded half to even here; hardware may round halves otherwise.",
        ),
        _ieee(
            "bf16", "BF16", 8, 7, "FP32's range in half the bits: the upper half of an FP32 number.", ml_dtypes.bfloat16
        ),
        _ieee("fp16", "FP16", 5, 10, "Half precision: more digits than BF16, a far smaller range.", np.float16),
        Format(
            name="fp8_e4m3",
            label="FP8 E4M3",
            kind=FLOAT,
            bits=8,
            meaning="8 bits for weights and activations: no infinity, and one pattern for NaN, which buys range.",
            precision="fp8_e4m3",
            exponent=4,
            fraction=3,
            bias=7,
            nan=True,
            dtype=ml_dtypes.float8_e4m3fn,
            said="Beyond 448 torch saturates, as here; the standard also allows NaN, which ml_dtypes gives.",
        ),
        _ieee(
            "fp8_e5m2",
            "FP8 E5M2",
            5,
            2,
            "8 bits for gradients: FP16's range with two fraction bits.",
            ml_dtypes.float8_e5m2,
        ),
        Format(
            name="fp4_e2m1",
            label="FP4 E2M1",
            kind=FLOAT,
            bits=4,
            meaning="Eight magnitudes from 0 to 6, for blocks of weights that share a scale (MXFP4, NVFP4).",
            precision="mxfp4",
            exponent=2,
            fraction=1,
            bias=1,
            dtype=ml_dtypes.float4_e2m1fn,
        ),
        Format(
            name="nf4",
            label="NF4",
            kind=CODEBOOK,
            bits=4,
            meaning="QLoRA's 16 values, placed where normally distributed weights are, times a block's largest weight.",
            precision="nf4",
            values=NF4_VALUES,
            said="A code is a place in a table: its bits have no meaning of their own. Halfway, the lower value.",
        ),
        Format(
            name="int8",
            label="INT8",
            kind=INTEGER,
            bits=8,
            meaning="Whole numbers in two's complement: equal steps, which a scale stretches over the weights.",
            precision="int8",
            dtype=np.int8,
            said="Rounded half to even and clamped, as quantisers do; a plain cast in torch truncates and wraps round.",
        ),
        Format(
            name="int4",
            label="INT4",
            kind=INTEGER,
            bits=4,
            meaning="16 whole numbers; two share a byte.",
            precision="int4",
            dtype=ml_dtypes.int4,
            said="Rounded half to even and clamped, as quantisers do.",
        ),
    )
}


def number_format(name: str) -> Format:
    """The row of that name.

    Raises:
        UnknownName: with the closest name and all there are.
    """
    return look_up(FORMATS, name, "number format")


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
    exponent = max(_floor_log2(size), 1 - row.bias) if size else 1 - row.bias
    units = round(size / _power(exponent - row.fraction))  # half to even
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


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if _power(guess) <= value else guess - 1


def _halfways(row: Format) -> list[Fraction]:
    """Between neighbouring values of a codebook, as far as float32 can tell: as ``qfund.precisions.quantizers.codebook``."""
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


def per_power_of_two(row: Format) -> list[tuple[int, int]]:
    """(k, how many positive values lie in [2^k, 2^(k + 1))) for every k that has one."""
    if row.kind == INTEGER:
        return [(power, 1 << power) for power in range(row.bits - 1)]
    if row.kind == CODEBOOK:
        powers = [_floor_log2(Fraction(value)) for value in row.values if value > 0]
        return [(power, powers.count(power)) for power in sorted(set(powers))]
    first = 1 - row.bias
    found = [(first - row.fraction + place, 1 << place) for place in range(row.fraction)]
    last, most = _floor_log2(row.largest), 1 << row.fraction
    found += [(power, most) for power in range(first, last)]
    return [*found, (last, int((row.largest - _power(last)) / _power(last - row.fraction)) + 1)]


#: The longest text of a typed number, and the furthest powers: exact arithmetic on longer ones would stop the page.
LONGEST, FURTHEST, FURTHEST_OF_TWO = 120, 1500, 5000

_PARTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Fraction]], ...] = (
    (re.compile(r"([+-]?)(\d*\.?\d*)(?:e([+-]?\d+))?", re.ASCII), lambda found: _decimal(*found.groups())),
    (re.compile(r"([+-]?)2(?:\^|\*\*)\(?([+-]?\d+)\)?", re.ASCII), lambda found: _of_two(*found.groups())),
)


def parse(text: str) -> Number:
    """A number as somebody types it: ``66246``, ``-0.1``, ``1e-8``, ``1/3``, ``2^-24``, ``inf``, ``nan``; exactly.

    Raises:
        InvalidInput: it is none, or too long for exact arithmetic.
    """
    found = text.strip().lower().replace("−", "-").replace("_", "")
    if not found:
        raise InvalidInput("No number is typed.", "Type one, such as 1/3, 66246, 1e-8 or 2^-24.")
    if len(found) > LONGEST:
        raise InvalidInput(f"The number has {len(found):,} characters.", f"Type at most {LONGEST}.")
    if found.lstrip("+-") in ("inf", "infinity", "nan"):
        return float(found)
    over, slash, under = found.partition("/")
    number = _part(over.strip(), text)
    if slash:
        divisor = _part(under.strip(), text)
        if not divisor:
            raise InvalidInput(f"{text.strip()[:40]!r} divides by zero.", "Type inf to see what infinity looks like.")
        number /= divisor
    return -0.0 if not number and found.startswith("-") else number


def _part(text: str, whole: str) -> Fraction:
    for pattern, make in _PARTS:
        if match := pattern.fullmatch(text):
            return make(match)
    raise InvalidInput(
        f"{whole.strip()[:40]!r} is no number.",
        "Type one with a point for decimals: 0.1, 1/3, 66246, 1e-8, 2^-24, inf or nan.",
    )


def _decimal(sign: str, digits: str, exponent: str | None) -> Fraction:
    if not any(digit.isdigit() for digit in digits):
        raise InvalidInput(f"{sign}{digits or 'e'} is no number.", "Type digits, such as 0.1 or 1e-8.")
    number = Fraction(f"{digits}0" if digits.endswith(".") else digits)
    return (-number if sign == "-" else number) * Fraction(10) ** _exponent(exponent or "0", FURTHEST)


def _of_two(sign: str, exponent: str) -> Fraction:
    return (-1 if sign == "-" else 1) * Fraction(2) ** _exponent(exponent, FURTHEST_OF_TWO)


def _exponent(text: str, furthest: int) -> int:
    if len(text) > 8 or abs(int(text)) > furthest:
        raise InvalidInput(f"The exponent {text[:20]} is too far out.", f"Type one from −{furthest} to {furthest}.")
    return int(text)


def decimals(value: Number, places: int = 60) -> str:
    """As many decimals as ``f"{value:.60f}"`` writes, of a number of any size; rounded half to even."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value).replace("-", "−")
        value, sign = Fraction(value), "−" if math.copysign(1, value) < 0 else ""
    else:
        sign = "−" if value < 0 else ""
    whole, rest = divmod(round(abs(value) * 10**places), 10**places)
    return f"{sign}{whole}.{rest:0{places}d}" if places else f"{sign}{whole}"


def exact(value: Number, most: int = 60) -> str:
    """The whole decimal expansion where it has at most ``most`` significant digits, else its beginning and an ``…``; a
    power of ten where it is far from one."""
    if isinstance(value, float) and not (value == 0 or math.isfinite(value)):
        return str(value).replace("-", "−")
    if not value:
        return "−0" if isinstance(value, float) and math.copysign(1, value) < 0 else "0"
    number = abs(Fraction(value))
    sign = "−" if value < 0 else ""
    power = _floor_log10(number)
    scaled = number / Fraction(10) ** (power - most + 1)
    digits = str(int(scaled))
    more = "" if scaled.denominator == 1 else "…"
    kept = digits if more else digits.rstrip("0")
    if -5 <= power < 21:
        kept = kept.ljust(power + 1, "0")
        if power < 0:
            return f"{sign}0.{'0' * (-power - 1)}{kept}{more}"
        head, tail = kept[: power + 1], kept[power + 1 :]
        return f"{sign}{head}{'.' if tail else ''}{tail}{more}"
    return f"{sign}{kept[0]}{'.' if kept[1:] else ''}{kept[1:]}{more}e{power:+d}".replace("e-", "e−")


def short(value: Number, digits: int = 6) -> str:
    """A number of a format, rounded to so many significant digits."""
    text = f"{float(value):.{digits}g}".replace("-", "−")
    head, _, power = text.partition("e")
    return f"{head}e{power[0].replace('+', '')}{int(power[1:])}" if power else head


def _floor_log10(value: Fraction) -> int:
    guess = len(str(value.numerator)) - len(str(value.denominator))
    return guess if Fraction(10) ** guess <= value else guess - 1
