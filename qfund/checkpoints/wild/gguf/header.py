"""The head of a GGUF file: what it says of the model, and which tensor lies where. Every length is held against the
file's before it is believed.

Layout (docs/gguf.md of ggml): magic, version, two counts, pairs of key and typed value, one record a tensor, and the
data from the next multiple of ``general.alignment`` on.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from qfund.checkpoints.headers import AGAIN, shortened
from qfund.checkpoints.wild.gguf.types import type_named
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel

#: Bytes of a head that are read: vocabularies of 260,000 tokens take 15 million.
LARGEST_HEAD = 256 * 1024**2
_MOST_DIMENSIONS, _MOST_NESTED = 4, 4
_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
#: Number of a value's type → struct's letter and NumPy's dtype.
_SCALARS = {
    0: ("B", "<u1"),
    1: ("b", "<i1"),
    2: ("H", "<u2"),
    3: ("h", "<i2"),
    4: ("I", "<u4"),
    5: ("i", "<i4"),
    6: ("f", "<f4"),
    7: ("?", "?"),
    10: ("Q", "<u8"),
    11: ("q", "<i8"),
    12: ("d", "<f8"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """A tensor: ``shape`` with output channels first (the file has the innermost first), ``start`` within the file."""

    name: str
    shape: tuple[int, ...]
    type: str
    start: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Head:
    """``values`` by key; arrays of numbers are NumPy's, those of texts lists."""

    version: int
    values: dict[str, Any]
    tensors: dict[str, Record]


class Incomplete(Exception):
    """The head goes on behind the bytes that were given."""


def parse(start: bytes | memoryview, size: int, where: str) -> Head:
    """The head of a file of ``size`` bytes that begins with ``start``; ``where`` names it in messages.

    Raises:
        Incomplete: ``start`` is too short for it, and the file has more.
        CorruptCheckpoint: it is truncated, or says what cannot be.
        UnsupportedModel: a version, byte order or tensor type that is not read.
    """
    reader = _Reader(memoryview(start), size, where)
    if bytes(reader.take(4)) != b"GGUF":
        raise CorruptCheckpoint(f"{where} does not begin as a GGUF file does.", AGAIN)
    version = reader.number("I")
    if version and version & 0xFFFF == 0:
        raise UnsupportedModel(f"{where} is a GGUF file of big-endian machines.", "Convert it for little-endian ones.")
    if version not in (2, 3):
        raise UnsupportedModel(f"{where} is GGUF version {version}; versions 2 and 3 are read.", "Convert it again.")
    tensors, pairs = reader.number("Q"), reader.number("Q")
    reader.promised(pairs, 13)
    values: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        if key in values:
            raise reader.lie(f"it says {shortened(key)} twice")
        values[key] = reader.value(reader.number("I"))
    reader.promised(tensors, 24)
    records = [_record(reader) for _ in range(tensors)]
    alignment = values.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise reader.lie(f"its alignment is {alignment!r}")
    data = -(-reader.place // alignment) * alignment
    return Head(version, values, _placed(records, data, alignment, reader))


def _record(reader: "_Reader") -> Record:
    name = reader.text()
    dimensions = reader.number("I")
    if dimensions > _MOST_DIMENSIONS:
        raise reader.lie(f"{shortened(name)} has {dimensions:,} dimensions")
    shape = tuple(reader.number("Q") for _ in range(dimensions))[::-1]
    number, start = reader.number("I"), reader.number("Q")
    kind = type_named(number)
    if kind is None:
        raise UnsupportedModel(
            f"{reader.where} holds {shortened(name)} in type {number}, which gguf does not know.",
            "Update the gguf package, or make the file again in another type.",
        )
    width = shape[-1] if shape else 1
    if width % kind.block:
        raise reader.lie(f"{shortened(name)} has rows of {width:,}, no multiple of a block of {kind.name}")
    return Record(name, shape, kind.name, start, math.prod(shape) // kind.block * kind.block_bytes)


def _placed(records: list[Record], data: int, alignment: int, reader: "_Reader") -> dict[str, Record]:
    """By name, at their places within the file, none over another."""
    placed: dict[str, Record] = {}
    for row in records:
        if row.name in placed:
            raise reader.lie(f"it holds {shortened(row.name)} twice")
        if row.start % alignment:
            raise reader.lie(f"{shortened(row.name)} begins at {row.start:,}, no multiple of {alignment}")
        placed[row.name] = Record(row.name, row.shape, row.type, data + row.start, row.bytes)
    end = data
    for row in sorted(placed.values(), key=lambda row: (row.start, row.bytes)):
        if row.start < end:
            raise reader.lie(f"{shortened(row.name)} overlaps with another tensor")
        end = row.start + row.bytes
    if end > reader.size and placed:
        raise CorruptCheckpoint(
            f"{reader.where} is truncated or damaged: its head promises {end:,} bytes, the file has {reader.size:,}.",
            AGAIN,
        )
    return placed


class _Reader:
    """Goes through the head; ``place`` is the next byte."""

    def __init__(self, start: memoryview, size: int, where: str) -> None:
        self.place, self.size, self.where = 0, size, where
        self._start = start

    def lie(self, what: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"The head of {self.where} is malformed: {what}.", AGAIN)

    def take(self, count: int) -> memoryview:
        end = self.place + count
        if end > self.size:
            raise CorruptCheckpoint(
                f"{self.where} is truncated or damaged: its head goes on behind its {self.size:,} bytes.", AGAIN
            )
        if end > LARGEST_HEAD:
            raise self.lie(f"it is longer than {LARGEST_HEAD:,} bytes")
        if end > len(self._start):
            raise Incomplete
        found = self._start[self.place : end]
        self.place = end
        return found

    def promised(self, count: int, least: int) -> None:
        """``count`` things of at least so many bytes must still fit into the file."""
        if count * least > self.size - self.place:
            raise CorruptCheckpoint(
                f"{self.where} is truncated or damaged: its head promises {count:,} entries more.", AGAIN
            )

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def text(self) -> str:
        """Tokens may be parts of a character: what is no UTF-8 is replaced."""
        return str(self.take(self.number("Q")), "utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY and depth < _MOST_NESTED:
            inner, count = self.number("I"), self.number("Q")
            if inner in _SCALARS:
                letter, dtype = _SCALARS[inner]
                return np.frombuffer(bytes(self.take(count * struct.calcsize(f"<{letter}"))), dtype)
            self.promised(count, 8)
            return [self.value(inner, depth + 1) for _ in range(count)]
        if kind in _SCALARS:
            return self.number(_SCALARS[kind][0])
        raise self.lie(f"a value has type {kind}, nested {depth} deep")
