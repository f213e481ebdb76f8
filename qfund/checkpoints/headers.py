"""Headers of safetensors files: names, dtypes, shapes and places of tensors, without their values."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from qfund.core.errors import CorruptCheckpoint

#: Bytes of a header that are read. The format allows 100 MB, for which Python needs a gigabyte; this is room for
#: 120,000 tensors in one file, and DeepSeek-V3 has 90,000 in 163.
LARGEST_HEADER = 16 * 1024**2

_MOST_DIMENSIONS = 64  # as many as torch has
#: safetensors' dtypes and their bits.
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_FLOATS = ("F64", "F32", "F16", "BF16")
AGAIN = "Download or save the file again."


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """``dtype`` is safetensors' name (``"F32"``, ``"BF16"``); ``bytes`` as stored."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are numbers that a model computes with."""
        return self.dtype in _FLOATS

    @property
    def is_coded(self) -> bool:
        """Whether the elements are codes of a quantised weight, not numbers: in 8 bits or fewer, or packed integers."""
        return self.dtype.startswith(("F8", "F6", "F4")) or self.dtype in ("I8", "U8", "I16", "U16", "I32", "U32")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Names, dtypes and shapes of a safetensors file, from its header alone.

    Raises:
        CorruptCheckpoint: the header is malformed or lies, or the file is not as long as it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(8), size, str(path))
        return parse_header(file.read(length), size - 8 - length, str(path))


def header_length(start: bytes, size: int, where: str) -> int:
    """Bytes of the header that follows the first eight of a file of ``size`` bytes; ``where`` names it in messages.

    Raises:
        CorruptCheckpoint: the file is too short for it, or it is too long to be read.
    """
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise CorruptCheckpoint(f"{where} is truncated or no safetensors file: {size:,} bytes.", AGAIN)
    if length > LARGEST_HEADER:
        raise CorruptCheckpoint(
            f"{where} begins with a header of {length:,} bytes; at most {LARGEST_HEADER:,} are read.", AGAIN
        )
    return length


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    dtype: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]


_ROWS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROW = msgspec.json.Decoder(_Row)
_METADATA = msgspec.json.Decoder(dict[str, str] | None)


def parse_header(raw: bytes, data: int, where: str) -> dict[str, StoredTensor]:
    """The tensors of a header, which must fill the ``data`` bytes behind it without gap or overlap.

    Raises:
        CorruptCheckpoint: it does not, or is malformed.
    """

    def lie(what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"The header of {where} is malformed: {what}.", AGAIN)

    try:
        found = _ROWS.decode(raw)
        metadata = _METADATA.decode(found.pop("__metadata__", "null")) or {}
        rows = {name: _ROW.decode(row) for name, row in found.items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise lie(str(error)) from error
    if raw.count(b'"data_offsets"') - ("data_offsets" in metadata) > len(rows):
        raise lie("it names a tensor twice")
    tensors: dict[str, StoredTensor] = {}
    for name, row in rows.items():
        start, end = row.data_offsets
        if (bits := _BITS.get(row.dtype)) is None:
            raise lie(f"{shortened(name)} is of dtype {shortened(row.dtype)}, which safetensors does not have")
        if len(row.shape) > _MOST_DIMENSIONS:
            raise lie(f"{shortened(name)} has {len(row.shape):,} dimensions")
        if math.prod(row.shape) * bits != 8 * (end - start):
            shape = "×".join(map(str, row.shape[:8])) or "a scalar"
            raise lie(f"{shortened(name)} is {shape} in {row.dtype}, which are not {end - start:,} bytes")
        tensors[name] = StoredTensor(row.dtype, tuple(row.shape), end - start)
    place = 0
    for start, end, name in sorted((*row.data_offsets, name) for name, row in rows.items()):
        if start != place:
            raise lie(f"{shortened(name)} {'overlaps with another tensor' if start < place else 'begins behind a gap'}")
        place = end
    if place != data:
        raise CorruptCheckpoint(
            f"{where} is truncated or damaged: its header promises {place:,} bytes of weights, the file has {data:,}.",
            AGAIN,
        )
    return tensors


def read_offsets(path: Path) -> dict[str, int]:
    """Where in a safetensors file, whose header was checked before, the first byte of each tensor's data lies.

    Raises:
        CorruptCheckpoint: the file has become shorter than its header.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = header_length(file.read(8), path.stat().st_size, str(path))
        return parse_offsets(file.read(length))


def parse_offsets(raw: bytes) -> dict[str, int]:
    """The same of a header that was checked before."""
    rows = _ROWS.decode(raw)
    rows.pop("__metadata__", None)
    return {name: 8 + len(raw) + _ROW.decode(row).data_offsets[0] for name, row in rows.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What a header, which was checked before, says besides tensors. Raises ``OSError`` when it cannot be read."""
    with path.open("rb") as file:
        length = header_length(file.read(8), path.stat().st_size, str(path))
        return _METADATA.decode(_ROWS.decode(file.read(length)).get("__metadata__", "null")) or {}


def shortened(name: str) -> str:
    """Names from a file may be of any length."""
    return name if len(name) <= 100 else f"{name[:100]}…"
