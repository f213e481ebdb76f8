"""The number formats that weights come in. One table; page, tests and figures iterate it."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np

from qfund.core.names import look_up
from qfund.features.formats.request.numbers import floor_log2, power_of_two
from qfund.precisions.levels import NF4_VALUES

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
    note: str = ""

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
        return power_of_two(1 - self.bias) if self.kind == FLOAT else None

    @cached_property
    def smallest(self) -> Fraction:
        """The smallest positive number; of a float subnormal."""
        if self.kind == FLOAT:
            return power_of_two(1 - self.bias - self.fraction)
        return Fraction(1) if self.kind == INTEGER else min(Fraction(value) for value in self.values if value > 0)

    @property
    def epsilon(self) -> Fraction | None:
        """The distance from 1 to the next larger number; a codebook ends at 1."""
        return None if self.kind == CODEBOOK else power_of_two(-self.fraction)

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
        value = whole * power_of_two(max(field, 1) - self.bias - self.fraction)
        return -value if code >> (self.bits - 1) else value


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
            note="19 bits that count, stored in 32. Rounded half to even here; hardware may round halves otherwise.",
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
            note="Beyond 448 torch saturates, as here; the standard also allows NaN, which ml_dtypes gives.",
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
            note="A code is a place in a table: its bits have no meaning of their own. Halfway, the lower value.",
        ),
        Format(
            name="int8",
            label="INT8",
            kind=INTEGER,
            bits=8,
            meaning="Whole numbers in two's complement: equal steps, which a scale stretches over the weights.",
            precision="int8",
            dtype=np.int8,
            note="Rounded half to even and clamped, as quantisers do; a plain cast in torch truncates and wraps round.",
        ),
        Format(
            name="int4",
            label="INT4",
            kind=INTEGER,
            bits=4,
            meaning="16 whole numbers; two share a byte.",
            precision="int4",
            dtype=ml_dtypes.int4,
            note="Rounded half to even and clamped, as quantisers do.",
        ),
    )
}


def number_format(name: str) -> Format:
    """The row of that name.

    Raises:
        UnknownName: with the closest name and all there are.
    """
    return look_up(FORMATS, name, "number format")


def per_power_of_two(row: Format) -> list[tuple[int, int]]:
    """(k, how many positive values lie in [2^k, 2^(k + 1))) for every k that has one."""
    if row.kind == INTEGER:
        return [(power, 1 << power) for power in range(row.bits - 1)]
    if row.kind == CODEBOOK:
        powers = [floor_log2(Fraction(value)) for value in row.values if value > 0]
        return [(power, powers.count(power)) for power in sorted(set(powers))]
    first = 1 - row.bias
    found = [(first - row.fraction + place, 1 << place) for place in range(row.fraction)]
    last, most = floor_log2(row.largest), 1 << row.fraction
    found += [(power, most) for power in range(first, last)]
    return [*found, (last, int((row.largest - power_of_two(last)) / power_of_two(last - row.fraction)) + 1)]
