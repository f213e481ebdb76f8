"""Files of importance matrices: what llama-imatrix writes, as GGUF and in its older layout (.dat, .imatrix)."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.headers import AGAIN, shortened
from qfund.checkpoints.identity import files_id
from qfund.checkpoints.wild.gguf.opening import head_of, packed, read_bytes
from qfund.core.errors import CorruptCheckpoint, ModelNotFound
from qfund.precisions.importance import Importance

#: Bytes of a file: those of the largest mixtures take half of it.
LARGEST = 4 * 1024**3
_SUMS, _COUNTS = ".in_sum2", ".counts"
_REMEDY = "Name a file that llama-imatrix wrote."

Numbers = NDArray[np.float32]


def identity(path: Path) -> str:
    """Of a file's content. Raises ``ModelNotFound`` where it cannot be read."""
    try:
        return files_id([path])
    except OSError as error:
        raise ModelNotFound(
            f"{path} cannot be read: {error.strerror or error}.", "Check that it is there and may be read."
        ) from error


def read(path: Path) -> Importance:
    """The mean square of each input of each weight, as llama-quantize takes it of the sums in the file.

    Raises:
        ModelNotFound: it cannot be read.
        CorruptCheckpoint: it is truncated, malformed or no importance matrix, or a mean is negative or not finite.
    """
    name = identity(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelNotFound(
            f"{path} cannot be read: {error.strerror or error}.", "Check that it may be read."
        ) from error
    if size > LARGEST:
        raise CorruptCheckpoint(f"{path.name} has {size:,} bytes: too many for an importance matrix.", _REMEDY)
    entries, chunks, datasets = _gguf(path) if start == b"GGUF" else _older(path, size)
    if not entries:
        raise CorruptCheckpoint(f"{path.name} is no importance matrix: it knows no weight.", _REMEDY)
    for weight, means in entries.items():
        if not means.size or not np.isfinite(means).all() or (means < 0).any():
            raise CorruptCheckpoint(
                f"{path.name} has means of squares for {shortened(weight)} that are negative or not finite.",
                "Make the importance matrix again: llama-quantize refuses it too.",
            )
    return Importance(name, entries, chunks, datasets)


_Read = tuple[dict[str, Numbers], int | None, tuple[str, ...]]


def _gguf(path: Path) -> _Read:
    """Sums of squares and how many were added, for each weight, of stacked experts for each of them."""
    head = head_of(path)
    entries: dict[str, Numbers] = {}
    for record in head.tensors.values():
        weight = record.name.removesuffix(_SUMS)
        if weight == record.name:
            continue
        counted = head.tensors.get(weight + _COUNTS)
        if counted is None or (record.type, counted.type) != ("F32", "F32"):
            raise CorruptCheckpoint(f"{path.name} does not count what it adds up for {shortened(weight)}.", _REMEDY)
        sums, counts = (packed(path, one).values().reshape(-1) for one in (record, counted))
        if not counts.size or sums.size % counts.size or not np.isfinite(counts).all():
            raise CorruptCheckpoint(
                f"{path.name} has {sums.size:,} sums for {shortened(weight)} and {counts.size:,} counts.", _REMEDY
            )
        rounded = np.copysign(np.floor(np.abs(counts) + np.float32(0.5)), counts)[:, None]
        parts = sums.reshape(len(counts), -1)
        with np.errstate(all="ignore"):  # what was never counted is 1, and what is not finite is refused
            entries[weight] = np.where(rounded > 0, parts / rounded, np.float32(1)).reshape(-1)
    return entries, _number(head.values, "imatrix.chunk_count"), _texts(head.values, "imatrix.datasets")


def _number(values: Mapping[str, object], key: str) -> int | None:
    found = values.get(key)
    return found if isinstance(found, int) else None


def _texts(values: Mapping[str, object], key: str) -> tuple[str, ...]:
    found = values.get(key)
    return tuple(str(one)[-80:] for one in found[:8]) if isinstance(found, list) else ()


def _older(path: Path, size: int) -> _Read:
    """A count of entries; for each a name, calls, and means times calls; then chunks and the file that they are of."""
    data = read_bytes(path, 0, size).tobytes()
    place = 0

    def number() -> int:
        nonlocal place
        if place + 4 > size:
            raise CorruptCheckpoint(f"{path.name} is no importance matrix, or is truncated.", _REMEDY)
        place += 4
        found: int = struct.unpack_from("<i", data, place - 4)[0]
        return found

    def taken(count: int) -> bytes:
        nonlocal place
        if count < 0 or place + count > size:
            raise CorruptCheckpoint(f"{path.name} is no importance matrix, or is truncated.", AGAIN)
        place += count
        return data[place - count : place]

    entries: dict[str, Numbers] = {}
    for _ in range(number()):
        weight = str(taken(number()), "utf-8", "replace")
        calls = number()
        means = np.frombuffer(taken(4 * number()), "<f4").astype(np.float32)
        with np.errstate(all="ignore"):
            entries[weight] = means / np.float32(calls) if calls > 0 else means
    if place == size:
        return entries, None, ()
    chunks = number()
    dataset = str(taken(number()), "utf-8", "replace") if place < size else ""
    return entries, chunks, (dataset[-80:],) if dataset else ()
