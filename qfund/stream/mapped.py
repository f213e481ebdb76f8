"""Weights that are multiplied with where they lie in their file: mapped, so that they take no memory of this process.

Their pages are the system's own cache of the file, clean, which it may take whenever it needs them. Each layer's are
let go when the layer has run: what is there at once is one layer's.
"""

import mmap
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from qfund.core.machine import leave


class Mappings:
    """Files that are mapped, each once, from the first part of it on until they are closed."""

    def __init__(self) -> None:
        self._files: dict[Path, Tensor | None] = {}

    def part(self, path: Path, file: int, start: int, count: int) -> Tensor | None:
        """So many bytes of an open file (its descriptor; ``path`` is its name), not to be written to; None where it
        cannot be mapped, or is shorter."""
        if path not in self._files:
            self._files[path] = None
            with suppress(OSError, ValueError):  # a file system without mappings, no address space, an empty file
                self._files[path] = torch.frombuffer(_mapping(file), dtype=torch.uint8)
        whole = self._files[path]
        return whole[start : start + count] if whole is not None and start + count <= len(whole) else None

    def leave(self, weight: Tensor) -> None:
        """Let its pages go, where it lies in one of these files: others would lose their values."""
        first, last = weight.data_ptr(), weight.data_ptr() + weight.nbytes
        for whole in self._files.values():
            if whole is not None and whole.data_ptr() <= first and last <= whole.data_ptr() + len(whole):
                leave(first, weight.nbytes)

    def close(self) -> None:
        """They are let go with the last part that somebody holds."""
        self._files.clear()

    @contextmanager
    def one_at_a_time(self, model: nn.Module, names: Iterable[str]) -> Iterator[None]:
        """While the block runs, the pages of these weights of the model go as soon as their module has run."""

        def after(key: str) -> Callable[..., None]:
            return lambda module, args, output: self.leave(getattr(module, key))

        handles = []
        for name in names:
            path, _, key = name.rpartition(".")
            handles.append(model.get_submodule(path).register_forward_hook(after(key)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _mapping(file: int) -> mmap.mmap:
    """All of an open file; who writes to it would have a copy of that page."""
    if sys.platform != "linux":
        return mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
    # Without memory set aside for such copies, which would be refused of a file that is larger than the memory.
    return mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


_NO_RESERVE = 0x4000  # mman.h; Python does not name it everywhere
