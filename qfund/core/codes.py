"""Numbers of very many positions as bytes: two for a magnitude, a bit for a flag. Tuples of Python's own numbers would
take thirty bytes each in memory and ten in JSON."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def magnitudes(values: ArrayLike) -> bytes:
    """Numbers as little-endian bfloat16, rounded to the nearest, ties to even: about 2.4 digits over the range of
    float32, which a heat map's colours need. NaN stays NaN and stands for "nothing here"."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    coded = np.where(np.isnan(np.asarray(values)), np.uint32(0x7FC0), rounded)
    return coded.astype("<u2").tobytes()


def read_magnitudes(code: bytes) -> NDArray[np.float32]:
    """The inverse of ``magnitudes``, to its precision: [n]."""
    return (np.frombuffer(code, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def flags(values: ArrayLike) -> bytes:
    """Truth values as bits, the first in the lowest bit of the first byte."""
    return np.packbits(np.asarray(values, bool), bitorder="little").tobytes()


def read_flags(code: bytes, count: int) -> NDArray[np.bool_]:
    """The inverse of ``flags``: [count]."""
    return np.unpackbits(np.frombuffer(code, np.uint8), count=count, bitorder="little").astype(bool)
