"""Types of GGUF tensors: how many weights a block has, how many bytes, and what numbers it stands for."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Types of plain numbers → NumPy's dtype; BF16 is the gguf package's to decode.
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
#: Weights that are decoded at once.
_PIECE = 512 * 1024
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Type:
    """``block`` weights take ``block_bytes``; ``decodable`` says whether gguf makes numbers of it."""

    name: str
    block: int
    block_bytes: int
    decodable: bool


@functools.cache
def _every() -> dict[int, Type]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import _type_traits

    return {
        kind.value: Type(kind.name, *GGML_QUANT_SIZES[kind], decodable=kind.name in _PLAIN or kind in _type_traits)
        for kind in GGMLQuantizationType
        if kind in GGML_QUANT_SIZES
    }


def type_named(number: int) -> Type | None:
    """The type of a number in a file's head; None for one that gguf does not know."""
    return _every().get(number)


@functools.cache
def type_of(name: str) -> Type:
    """The type of this name. Raises ``KeyError``."""
    return {kind.name: kind for kind in _every().values()}[name]


def decode(data: bytes | NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    """The numbers, flat, that blocks of bytes stand for, as gguf's ``dequantize`` gives them."""
    raw: Any = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    if (dtype := _PLAIN.get(kind)) is not None:
        with np.errstate(over="ignore"):  # of a double that float32 does not hold: infinite, and said to be
            plain: NDArray[np.float32] = raw.view(dtype).astype(np.float32)
        return plain
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    number = GGMLQuantizationType[kind]
    # As one row, so that gguf takes the piece at once: its temporaries stay in a core's cache.
    blocks = raw.reshape(-1, type_of(kind).block_bytes)
    found = np.empty((len(blocks), type_of(kind).block), np.float32)
    step = _PIECE // type_of(kind).block
    with np.errstate(over="ignore", invalid="ignore"):  # scales of a damaged file
        for start in range(0, len(blocks), step):
            piece = blocks[start : start + step]
            found[start : start + step].reshape(-1)[:] = dequantize(piece.reshape(1, -1), number)[0]
    return found.reshape(-1)
