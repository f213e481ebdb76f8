"""Linear quantisation of one matrix in NumPy, step by step as torchao does it: what a page can redraw at every move.

    q = clamp(round(w / s) + z, q_min, q_max)        ŵ = (q − z) · s

Everything is float32, as torchao computes a float32 weight on a CPU; tests hold it to torchao's primitives bit for bit.
``quantizers.integer`` is the same for whole models, in torch; this file is for the web process, which has none.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qfund.core.errors import InvalidInput

Floats: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = NDArray[np.int8]

#: Granularity → how many neighbours in a row share a scale: 0 for all of the matrix, None for all of the row.
GRANULARITIES: dict[str, int | None] = {"tensor": 0, "channel": None, "g32": 32, "g64": 64, "g128": 128}
BITS = (8, 7, 6, 5, 4, 3, 2)
#: How a range becomes a scale; the two differ in more than it seems.
CONVENTIONS = {
    "torchao": "Zero always belongs to the range. Symmetric: s = max|w| / ((q_max − q_min) / 2), /127.5 for 8 bits, so "
    "both ends of the range are used. The weight is multiplied by 1 / s, rounded, and z is added after that.",
    "course": "The textbook's: the range is that of the weights, with or without zero. Symmetric: s = max|w| / q_max, "
    "/127 for 8 bits, so −128 is never used. The weight is divided by s, z is added, and the sum is rounded.",
}
#: The smallest scale that is chosen, so that nothing is divided by zero: torchao's, of float32.
LEAST_SCALE = float(np.finfo(np.float32).eps)
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_SCALE_BYTES, _ZERO_POINT_BYTES = 4, 1
#: Weights that are held in double precision at once.
_AT_ONCE = 2**20
#: Planes that a width is stored in, as ``quantizers.packing`` does: 3 bits are 2 + 1.
_PLANES = (8, 4, 2, 1)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a matrix is quantised; ``granularity`` and ``convention`` name rows of the tables above."""

    bits: int = 8
    symmetric: bool = False
    granularity: str = "tensor"
    convention: str = "torchao"

    @property
    def q_min(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def q_max(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def size(self, columns: int) -> int:
        """Columns that share a scale in a row of so many."""
        return min(GRANULARITIES[self.granularity] or columns, columns)


@dataclass(frozen=True, slots=True)
class Parameters:
    """``scale`` (float32) and ``zero_point`` (int32): [1, 1] per tensor, [rows, 1] per channel, [rows, groups]."""

    scale: Floats
    zero_point: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Damage:
    """What rounding did, in double precision.

    Attributes:
        sqnr: 10·log10(Σw² / Σ(ŵ − w)²) in dB; infinite where nothing was lost, None for a matrix of zeros.
        clipped: weights beyond the last code that were clamped to it.
    """

    mse: float
    max_error: float
    sqnr: float | None
    clipped: int


@dataclass(frozen=True, slots=True)
class Bytes:
    codes: int
    scales: int
    zero_points: int

    @property
    def total(self) -> int:
        return self.codes + self.scales + self.zero_points


def checked(weight: NDArray[Any]) -> Floats:
    """The matrix in float32, if it can be quantised.

    Raises:
        InvalidInput: it is empty, no matrix, not finite in float32, or spans more than float32 holds.
    """
    if weight.ndim != 2 or not weight.size:
        raise InvalidInput(
            f"This is no matrix: its shape is {'×'.join(map(str, weight.shape)) or 'that of a number'}.",
            "Give rows and columns of numbers.",
        )
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(weight, dtype=np.float32)
    finite = np.isfinite(found)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        count = int(found.size - finite.sum())
        value = float(weight[row, column])
        said = "beyond float32" if math.isfinite(value) else "not a number" if math.isnan(value) else "infinite"
        others = f" ({count:,} values are not finite)" if count > 1 else ""
        raise InvalidInput(
            f"The value at [{row}, {column}] (row and column, from 0) is {said}{others}: no range, so no scale.",
            "Choose another part of the matrix, or replace the value.",
        )
    if float(found.max()) - float(found.min()) > _LARGEST:
        raise InvalidInput("The values span more than float32 can hold.", "Divide them by ten, for example.")
    return found


def choose(weight: Floats, scheme: Scheme) -> Parameters:
    """Scale and zero-point of every part of a matrix that ``checked`` gave, from its smallest and largest weight."""
    low, high = extremes(weight, scheme)
    return _as_course(low, high, scheme) if scheme.convention == "course" else _as_torchao(low, high, scheme)


def checked_parameters(scale: float, zero_point: int, scheme: Scheme) -> Parameters:
    """Somebody's own scale and zero-point for the whole matrix.

    Raises:
        InvalidInput: they cannot be.
    """
    if not math.isfinite(scale) or not _SMALLEST <= scale <= _LARGEST:
        why = "not a number" if math.isnan(scale) else "not positive" if scale <= 0 else "out of float32's range"
        raise InvalidInput(f"The scale {scale:g} is {why}.", "Give a number above 0, such as 3.5: it is the step.")
    if not scheme.q_min <= zero_point <= scheme.q_max:
        raise InvalidInput(
            f"The zero-point {zero_point} is no {scheme.bits}-bit integer.",
            f"Give one from {scheme.q_min} to {scheme.q_max}: it is the code that stands for 0.",
        )
    if scheme.symmetric and zero_point:
        raise InvalidInput("A symmetric quantiser has the zero-point 0.", "Choose asymmetric to move it.")
    return Parameters(np.full((1, 1), scale, np.float32), np.full((1, 1), zero_point, np.int32))


def quantize(weight: Floats, parameters: Parameters, scheme: Scheme) -> tuple[Codes, int]:
    """The codes [rows, columns], and how many weights were clamped."""
    scale, zero_point = (_spread(part, weight, scheme) for part in (parameters.scale, parameters.zero_point))
    with np.errstate(over="ignore"):  # of a scale that somebody chose: clamped like any other code
        if scheme.convention == "course":
            codes = np.rint(weight / scale + zero_point.astype(np.float32))
        else:
            codes = np.rint(weight * (np.float32(1) / scale))
            codes += zero_point
    clipped = int(np.count_nonzero(codes < scheme.q_min) + np.count_nonzero(codes > scheme.q_max))
    return np.clip(codes, scheme.q_min, scheme.q_max, out=codes).astype(np.int8), clipped


def dequantize(codes: Codes, parameters: Parameters, scheme: Scheme) -> Floats:
    """(q − z) · s."""
    scale, zero_point = (_spread(part, codes, scheme) for part in (parameters.scale, parameters.zero_point))
    values = codes.astype(np.float32)
    values -= zero_point
    with np.errstate(over="ignore"):
        values *= scale
    return values


def damage(weight: Floats, values: Floats, clipped: int) -> Damage:
    """How far ``values`` are from ``weight``."""
    signal = noise = largest = 0.0
    for start in range(0, len(weight), rows := max(1, _AT_ONCE // weight.shape[1])):
        part = weight[start : start + rows].astype(np.float64)
        error = values[start : start + rows] - part
        signal += float(np.square(part).sum())
        noise += float(np.square(error).sum())
        largest = max(largest, float(np.abs(error).max()))
    sqnr = None if signal == 0 else 10 * math.log10(signal / noise) if noise else math.inf
    return Damage(noise / weight.size, largest, sqnr, clipped)


def stored_bytes(shape: tuple[int, int], scheme: Scheme) -> Bytes:
    """What the quantised matrix takes: packed codes, float32 scales, and where asymmetric int8 zero-points."""
    rows, columns = shape
    parts = 1 if scheme.granularity == "tensor" else rows * math.ceil(columns / scheme.size(columns))
    codes = rows * sum(math.ceil(columns * width / 8) for width in _planes(scheme.bits))
    return Bytes(codes, _SCALE_BYTES * parts, 0 if scheme.symmetric else _ZERO_POINT_BYTES * parts)


def representable(parameters: Parameters, scheme: Scheme, row: int = 0, group: int = 0) -> Floats:
    """The values [2**bits] that one part of the matrix can take, in the order of its codes."""
    place = (0, 0) if scheme.granularity == "tensor" else (row, group)
    codes = np.arange(scheme.q_min, scheme.q_max + 1, dtype=np.int32) - parameters.zero_point[place]
    values: Floats = codes.astype(np.float32)
    with np.errstate(over="ignore"):
        values *= parameters.scale[place]
    return values


def scale_index(row: int, column: int, columns: int, scheme: Scheme) -> tuple[int, int]:
    """Where in ``Parameters`` the scale of a weight stands."""
    return (0, 0) if scheme.granularity == "tensor" else (row, column // scheme.size(columns))


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """[rows, K] unsigned codes below 2**bits → [rows, bytes], the first code in the lowest bits.

    A width of 3, 5, 6 or 7 bits is stored in planes, the widest first, as ``quantizers.packing`` does.
    """
    planes, low = [], 0
    for width in _planes(bits):
        part = (codes >> low) & ((1 << width) - 1)
        per = 8 // width
        part = np.pad(part, ((0, 0), (0, -codes.shape[1] % per)))
        part = part.reshape(len(codes), -1, per) << (np.arange(per, dtype=np.uint8) * width)
        planes.append(np.bitwise_or.reduce(part, axis=2))
        low += width
    return np.concatenate(planes, axis=1).astype(np.uint8)


def unsigned(codes: Codes, scheme: Scheme) -> NDArray[np.uint8]:
    """Codes counted from 0, as they are packed: q − q_min."""
    return (codes.astype(np.int16) - scheme.q_min).astype(np.uint8)


def _planes(bits: int) -> list[int]:
    return [width for width in _PLANES if bits & width]


def extremes(weight: Floats, scheme: Scheme) -> tuple[Floats, Floats]:
    """Smallest and largest weight of every part, in the shape of ``Parameters``."""
    if scheme.granularity == "tensor":
        return weight.min(keepdims=True), weight.max(keepdims=True)
    starts = np.arange(0, weight.shape[1], scheme.size(weight.shape[1]))
    return np.minimum.reduceat(weight, starts, axis=1), np.maximum.reduceat(weight, starts, axis=1)


def _as_torchao(low: Floats, high: Floats, scheme: Scheme) -> Parameters:
    low, high = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
    steps = scheme.q_max - scheme.q_min
    if scheme.symmetric:
        scale = np.maximum(-low, high) / np.float32(steps / 2)
        return Parameters(np.maximum(scale, np.float32(LEAST_SCALE)), np.zeros(low.shape, np.int32))
    scale = np.maximum((high - low) / np.float32(steps), np.float32(LEAST_SCALE))
    zero_point = np.clip(scheme.q_min - np.rint(low / scale), scheme.q_min, scheme.q_max)
    return Parameters(scale, zero_point.astype(np.int32))


def _as_course(low: Floats, high: Floats, scheme: Scheme) -> Parameters:
    """As the course's notebook, which computes both in Python's doubles and rounds the scale to float32 in the end."""
    least, greatest = low.astype(np.float64), high.astype(np.float64)
    if scheme.symmetric:
        scale = np.maximum(np.maximum(-least, greatest) / scheme.q_max, LEAST_SCALE)
        return Parameters(scale.astype(np.float32), np.zeros(low.shape, np.int32))
    scale = np.maximum((greatest - least) / (scheme.q_max - scheme.q_min), LEAST_SCALE)
    zero_point = np.clip(np.rint(scheme.q_min - least / scale), scheme.q_min, scheme.q_max)
    return Parameters(scale.astype(np.float32), zero_point.astype(np.int32))


def _spread(part: NDArray[Any], matrix: NDArray[Any], scheme: Scheme) -> NDArray[Any]:
    """What belongs to each part, so that it broadcasts over ``matrix``."""
    if part.shape[1] == 1:
        return part
    return np.repeat(part, scheme.size(matrix.shape[1]), axis=1)[:, : matrix.shape[1]]
