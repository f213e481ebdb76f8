"""A unit's weights: read once from the checkpoint's files, and loaded into any base dtype as transformers does it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from transformers.core_model_loading import convert_and_load_state_dict_in_model

from qfund.checkpoints import reading
from qfund.checkpoints.checkpoint import Checkpoint, places
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import CorruptCheckpoint
from qfund.models.match.ties import renamed
from qfund.precisions.quantizers import pieces
from qfund.stream.ahead import waiting
from qfund.stream.frame import Frame, Slot
from qfund.stream.mapped import Mappings
from qfund.stream.units import BLOCK, Unit

#: safetensors' names of dtypes.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
#: Weights that are decoded at once.
_PIECE = 512 * 1024
_LINE = 64  # bytes of a cache line
_AGAIN = "Download or save the checkpoint again."


class Reader:
    """Reads a checkpoint unit by unit, into memory of its own: what happens to the files later harms nobody; of what is
    ``mapped``, it does while it is held.

    Attributes:
        bytes_read: so far.
        mappings: of its files.
        waited: seconds that reading waited for a disk, so far: neither computing nor ready and without a core.
    """

    def __init__(self, checkpoint: Checkpoint, frame: Frame) -> None:
        """``frame`` is any that is not converted: it tells which tensors of the checkpoint make which weights."""
        self.bytes_read, self.waited, self.mappings = 0, 0.0, Mappings()
        self._checkpoint = checkpoint
        self._places = places(checkpoint.folder)
        names = renamed(checkpoint.tensors, frame.model)
        self._makes = {key: name for key, (name, _) in names.items()}
        self._as_stored = {key for key, (_, converted) in names.items() if not converted}
        self._keys: dict[str, list[str]] = defaultdict(list)
        for key, name in self._makes.items():
            self._keys[name].append(key)
        self._names: dict[str, list[str]] = defaultdict(list)
        for slot in frame.every_slot.values():
            self._names[slot.owner].append(slot.name)
        self._open, self._opening = dict[Path, int](), Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._open.clear()
        self.mappings.close()

    def keys(self, frame: Frame, unit: Unit) -> list[str]:
        """The tensors of the checkpoint that make up the unit."""
        wanted = self._related(frame, unit)
        inside = tuple(f"{name}." for name in unit.modules) if unit.kind == BLOCK else ()
        # A tensor that is split into several weights is known under the first of them; all are in one block.
        return [key for key, name in self._makes.items() if name in wanted or (inside and name.startswith(inside))]

    def bytes(self, frame: Frame, unit: Unit) -> int:
        """Of the checkpoint that ``read`` of this unit will read."""
        return sum(self._checkpoint.tensors[key].bytes for key in self.keys(frame, unit))

    def read(self, frame: Frame, unit: Unit) -> dict[str, Tensor]:
        """The checkpoint's tensors that make up the unit, by their names there.

        Raises:
            ModelNotFound: a file is gone, cut short, or cannot be read any more.
        """
        return {key: self._read(key) for key in self.keys(frame, unit)}

    def read_all(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """These tensors of the checkpoint. Raises as ``read``."""
        return {key: self._read(key) for key in keys}

    def together(self, keys: Iterable[str]) -> list[list[str]]:
        """Tensors in such sets as each make weights without the others."""
        found: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            found[self._makes[key]].append(key)
        return list(found.values())

    def plain(self, slot: Slot) -> str | None:
        """The one tensor of the checkpoint that is this weight as it is, but for its dtype; None where there is no such
        tensor, or several."""
        names = self._names[slot.owner]
        keys = [key for name in names for key in self._keys[name]]
        if len(keys) != 1 or keys[0] not in self._as_stored:
            return None
        return keys[0] if self._checkpoint.tensors[keys[0]].shape == tuple(slot.empty.shape) else None

    def dtype(self, key: str) -> torch.dtype:
        """Of a tensor as it is read."""
        return _DTYPES[self._checkpoint.tensors[key].dtype]

    def by_rows(self, key: str) -> bool:
        """Whether some rows of a tensor can be read for less than all of them."""
        packed = self._checkpoint.packed.get(key)
        return packed is None or packed.by_rows

    def shape(self, key: str) -> torch.Size:
        return torch.Size(self._checkpoint.tensors[key].shape)

    def size(self, keys: Iterable[str]) -> int:
        """Bytes of these tensors as they are read."""
        return sum(self.shape(key).numel() * self.dtype(key).itemsize for key in keys)

    def room(self, key: str) -> Tensor:
        """Memory for a whole tensor, as ``read`` takes it."""
        return self._room(key, self._checkpoint.tensors[key].shape, 0)

    def may_be_mapped(self, slot: Slot) -> bool:
        """Whether a weight is large, and what is computed with is what lies in the file."""
        key = self.plain(slot)
        return (
            key is not None
            and key not in self._checkpoint.packed
            and slot.empty.numel() > pieces.PIECE
            and slot.empty.dtype == self.dtype(key)
            and not self._places[key][1] % slot.empty.dtype.itemsize
            and not slot.turned
        )

    def mapped(self, key: str) -> Tensor | None:
        """A whole tensor that ``may_be_mapped``, where it lies in its file; None where the system does not map that.
        Raises as ``read``."""
        path, start = self._places[key]
        file, dtype = self._file(path), self.dtype(key)
        with self._opening:
            part = self.mappings.part(path, file, start, self._checkpoint.tensors[key].bytes)
        return None if part is None else part.view(dtype).view(self.shape(key))

    def some(self, key: str, first: int, last: int, into: Tensor) -> int:
        """Read rows ``first`` … ``last`` − 1 of a tensor ``into`` memory of their shape, in any thread; how many bytes
        of files that were, which the caller counts. Raises as ``read``."""
        if (packed := self._checkpoint.packed.get(key)) is not None:
            into.numpy()[:] = packed.decode(first, last)
            return packed.bytes * (last - first) // max(1, packed.rows)
        stored = self._checkpoint.tensors[key]
        return self._fill(into, key, first * (stored.bytes // stored.shape[0]))

    def rows(self, slot: Slot, rows: Tensor) -> Tensor | None:
        """The rows with these numbers (ascending) of a weight, as stored; None where the checkpoint does not hold the
        weight as it is.

        Raises:
            ModelNotFound: as ``read``.
        """
        keys = [key for name in self._names[slot.owner] for key in self._keys[name]]
        if len(keys) != 1 or self._checkpoint.tensors[keys[0]].shape != tuple(slot.empty.shape):
            return None
        stored = self._checkpoint.tensors[keys[0]]
        numbers = rows.tolist()
        if (packed := self._checkpoint.packed.get(keys[0])) is not None:
            return self._decoded(packed, list(_runs(numbers)))
        size, done = stored.bytes // stored.shape[0], 0
        found = self._room(keys[0], (len(numbers), *stored.shape[1:]), numbers[0] * size)
        for start, count in _runs(numbers):
            self.bytes_read += self._fill(found[done : done + count], keys[0], start * size)
            done += count
        return found

    def load(self, frame: Frame, unit: Unit, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What these tensors make of the unit, by its name in the model, of a cast's frame, in its dtype. What needs no
        other dtype or order is the very memory that was read."""
        model, every = frame.model, frame.every_slot
        try:
            convert_and_load_state_dict_in_model(model, dict(tensors), frame.load_config)
            found: dict[str, Tensor] = {}
            for slot in frame.slots(unit):
                # What is tied is loaded under one of its names.
                held = (every[name].tensor for name in self._names[slot.owner])
                if (tensor := next((tensor for tensor in held if tensor.device.type != "meta"), None)) is not None:
                    found[slot.name] = tensor.detach()
            return found
        finally:
            for name in self._related(frame, unit):
                every[name].clear()

    def missing(self, name: str) -> CorruptCheckpoint:
        """The error that a weight was not among what was read."""
        return CorruptCheckpoint(f"{self._checkpoint.folder.name} gives no {name}.", _AGAIN)

    def _related(self, frame: Frame, unit: Unit) -> set[str]:
        """The unit's tensors, and those elsewhere that are tied to them."""
        return {name for slot in frame.slots(unit) for name in self._names[slot.owner]}

    def _read(self, key: str) -> Tensor:
        if (packed := self._checkpoint.packed.get(key)) is not None:
            return self._decoded(packed, [(0, packed.rows)]).view(packed.shape)
        found = self.room(key)
        with waiting() as waited:
            self.bytes_read += self._fill(found, key, 0)
        self.waited += waited[0]
        return found

    def _decoded(self, packed: PackedTensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        """Rows of a tensor of a quantised file, given as runs: where each starts, and its length; on all cores."""
        count = sum(length for _, length in runs)
        found = torch.empty((count, *packed.shape[1:]), dtype=torch.float32)
        step = max(1, _PIECE * packed.rows // max(1, packed.elements)) if packed.by_rows else count
        done, parts = 0, []
        for start, length in runs:
            for first in range(start, start + length, step):
                last = min(first + step, start + length)
                parts.append((done, first, last))
                done += last - first

        memory = found.numpy()  # threads of the pool are in no inference mode, so they write by NumPy

        def decode(piece: tuple[int, int, int]) -> None:
            place, first, last = piece
            memory[place : place + last - first] = packed.decode(first, last)

        if len(parts) > 1:
            list(pieces.pool().map(decode, parts))
        else:
            for piece in parts:
                decode(piece)
        self.bytes_read += packed.bytes * count // max(1, packed.rows)
        return found

    def _room(self, key: str, shape: tuple[int, ...], offset: int) -> Tensor:
        """Memory for (a part of) a tensor, aligned as the file that transformers would map: products in fp32 differ in
        the last bit between alignments."""
        dtype = _DTYPES[self._checkpoint.tensors[key].dtype]
        size = math.prod(shape) * dtype.itemsize
        memory = torch.empty(size + _LINE, dtype=torch.uint8)
        start = (self._places[key][1] + offset - memory.data_ptr()) % _LINE
        part = memory[start : start + size]
        if start % dtype.itemsize:  # no alignment for this dtype: torch would refuse
            part = torch.empty(size, dtype=torch.uint8)
        return part.view(dtype).view(shape)

    def _fill(self, into: Tensor, key: str, offset: int) -> int:
        path, start = self._places[key]
        if not into.numel():
            return 0
        memory = into.reshape(-1).view(torch.uint8).numpy().data
        reading.fill(memory, self._file(path), path, start + offset)
        return len(memory)

    def _file(self, path: Path) -> int:
        with self._opening:
            if path not in self._open:
                self._open[path] = self._stack.enter_context(reading.opened(path)).fileno()
            return self._open[path]


def _runs(numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Ascending numbers as runs: where each starts, and how many follow one another."""
    start = length = 0
    for number in numbers:
        if length and number == start + length:
            length += 1
            continue
        if length:
            yield start, length
        start, length = number, 1
    if length:
        yield start, length
