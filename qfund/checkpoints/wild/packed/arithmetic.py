"""What decoders of integers and small floats share: bits unpacked, scales spread over their groups, products rounded to
the dtype in which a format's own library multiplies."""

import functools
import math

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

#: safetensors' dtypes → NumPy's.
DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
    }.items()
}
#: transformers' and torch's names of dtypes → safetensors'.
NAMED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "half": "F16"}

#: The 16 numbers of four bits, two of them the exponent's (OCP Microscaling, E2M1), by code; the highest is the sign.
E2M1 = np.array([sign * value for sign in (1, -1) for value in (0, 0.5, 1, 1.5, 2, 3, 4, 6)], np.float32)


def unpack(packed: NDArray[np.generic], bits: int, count: int) -> Codes:
    """Codes of ``bits`` (1 to 8) each, as they lie one behind the other along the last axis, lowest bit first, of
    little-endian bytes or words: [..., words] → [..., count]."""
    data = np.ascontiguousarray(packed).view(np.uint8)
    if bits == 8:
        return data[..., :count]
    if bits == 4:
        nibbles = np.empty((*data.shape, 2), np.uint8)
        np.bitwise_and(data, 15, out=nibbles[..., 0])
        np.right_shift(data, 4, out=nibbles[..., 1])
        return nibbles.reshape(*data.shape[:-1], -1)[..., :count]
    if 8 % bits == 0:
        places = np.arange(0, 8, bits, dtype=np.uint8)
        fields: Codes = (data[..., None] >> places) & np.uint8(2**bits - 1)
        return fields.reshape(*data.shape[:-1], -1)[..., :count]
    # Eight codes lie in ``bits`` bytes, which one word of eight bytes holds.
    runs = -(-count // 8)
    used = data[..., : runs * bits]
    room = np.zeros((*data.shape[:-1], runs * bits), np.uint8)
    room[..., : used.shape[-1]] = used
    words = np.zeros((*data.shape[:-1], runs, 8), np.uint8)
    words[..., :bits] = room.reshape(*data.shape[:-1], runs, bits)
    places = np.arange(0, 8 * bits, bits, dtype=np.uint64)
    codes = (words.view("<u8") >> places) & np.uint64(2**bits - 1)
    return codes.astype(np.uint8).reshape(*data.shape[:-1], -1)[..., :count]


def words(count: int, bits: int, word: int = 32) -> int:
    """How many words hold so many codes without gaps."""
    return math.ceil(count * bits / word)


def number(values: NDArray[np.generic]) -> Floats:
    """As float32, which holds every dtype but float64 exactly."""
    if values.dtype.itemsize == 1 and values.dtype not in (np.uint8, np.int8, np.bool_):
        return np.take(_numbers(values.dtype), values.view(np.uint8))  # several times as fast as a cast
    return values.astype(np.float32)


@functools.cache
def _numbers(dtype: np.dtype[np.generic]) -> Floats:
    """What each byte stands for."""
    return np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)


def rounded(values: Floats, dtype: str) -> Floats:
    """To the nearest number of a dtype (safetensors' name), ties to even, as a cast does; in float32 again."""
    if dtype == "F32":
        return values
    with np.errstate(over="ignore"):
        if dtype == "F16" and values.size and np.abs(values).max() < _LARGEST_HALF:
            return _in_half(values)
        return values.astype(DTYPES[dtype]).astype(np.float32)


_LARGEST_HALF = 65504


def _in_half(values: Floats) -> Floats:
    """As float16 holds them, four times as fast as NumPy's casts: to add 1.5 · 2^(exponent + 13), and to take it away
    again, drops the 13 bits by which float32 is longer, ties to even; below 2^-14 by float16's fixed last place."""
    power = values.view(np.uint32) & np.uint32(0x7F800000)
    np.maximum(power, np.uint32(113 << 23), out=power)
    power += np.uint32((13 << 23) + 0x400000)
    shift = power.view(np.float32)
    found: Floats = values + shift
    found -= shift
    return found


def spread(values: Floats, columns: int, group: int) -> Floats:
    """One value a group of columns → one a column: [rows, groups] → [rows, columns]."""
    if values.shape[-1] == 1:
        return values
    return np.repeat(values, group, axis=-1)[..., :columns]


def scaled(codes: NDArray[np.generic], scales: Floats, zeros: Floats | None, group: int, dtype: str) -> Floats:
    """(code − zero-point) × scale, each step rounded to ``dtype``, the scales' own: [rows, columns], [rows, groups] →
    [rows, columns].

    A code of 8 bits or fewer less a zero-point of as many is exact in 16 bits, and float32 holds its product with a
    scale of 16 bits exactly: so the one rounding behind it is that of a product in 16 bits.
    """
    rows, columns = codes.shape
    whole = number(codes)
    if scales.shape[-1] == 1 or columns % group == 0:
        # Broadcast over groups instead of writing each scale ``group`` times.
        shape = (rows, scales.shape[-1], -1)
        whole = whole.reshape(shape)
        if zeros is not None:
            whole -= zeros[..., None]
        whole *= scales[..., None]
        return rounded(whole.reshape(rows, columns), dtype)
    if zeros is not None:
        whole -= spread(zeros, columns, group)
    whole *= spread(scales, columns, group)
    return rounded(whole, dtype)


def exponents(codes: NDArray[np.generic]) -> Floats:
    """E8M0 (OCP Microscaling): a byte b is 2 to the power of b − 127, and 255 is no number."""
    return number(codes.view(DTYPES["F8_E8M0"]))
