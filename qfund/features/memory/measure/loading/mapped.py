"""What of a checkpoint's mapped file is alive at every moment of a load: tensors as safetensors gives them, not copied.

A tensor is watched from where it is given until its storage is gone, whoever holds it then. So a weight that is cast is
counted until its copy has taken its place, and a part of a stack until it has been stacked.
"""

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import modeling_utils

from qfund.features.memory.measure.loading.messages import Moment
from qfund.features.memory.measure.loading.phases import file_ranges, memory, within
from qfund.models.loading import coding


class Mapped:
    """``moments``: one for each tensor that came or went, with what is alive of the file from then on."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._now = 0
        self._holders: dict[int, int] = {}  # address in the file → storages that begin there
        self._ranges: list[tuple[int, int]] = []
        self._lock = threading.RLock()  # a tensor may go at any point of this code

    def watch(self, tensor: Tensor) -> Tensor:
        """The same tensor, counted while its storage lives."""
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        with self._lock:
            if size and self._in_file(place):
                weakref.finalize(storage, self._change, place, size, -1).atexit = False
                self._change(place, size, 1)
        return tensor

    def _in_file(self, place: int) -> bool:
        if not within(place, self._ranges):  # it may have been mapped since
            self._ranges = file_ranges(Path("/proc/self/maps").read_text("utf-8", "replace"))
        return within(place, self._ranges)

    def _change(self, place: int, size: int, by: int) -> None:
        sizes = memory()
        with self._lock:
            before = self._holders.get(place, 0)
            self._holders[place] = before + by
            if bool(before) != bool(before + by):
                self._now += by * size
                self.moments.append(Moment(time.monotonic(), *(sizes or (0, 0)), self._now))


def give(through: Callable[[Tensor], Tensor]) -> None:
    """Let every tensor that is read from a file of safetensors, by transformers or by qfund's own way, go ``through``
    this first."""
    modeling: Any = modeling_utils  # its imports are not meant to be used, let alone replaced
    original, ours = modeling.safe_open, vars(coding)

    class Slice:
        def __init__(self, found: Any) -> None:
            self._found = found

        def __getattr__(self, name: str) -> Any:
            return getattr(self._found, name)

        def __getitem__(self, key: Any) -> Any:
            return through(self._found[key])

    class File:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._file = original(*arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> "File":
            self._file.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self._file.__exit__(*error)

        def get_slice(self, name: str) -> Slice:
            return Slice(self._file.get_slice(name))

        def get_tensor(self, name: str) -> Any:
            return through(self._file.get_tensor(name))

    modeling.safe_open = ours["safe_open"] = File
