"""Logits gone through in tiles that a core's cache holds, by as many threads as torch has.

A pass over a tile is some microseconds of one core: shared among threads pass by pass, as torch would, it costs more to
wake and to wait for them than to compute. So every thread takes a tile through all passes, and then the next.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, local

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vector = NDArray[np.float64]
#: Elements of a tile on a CPU: a megabyte in double precision. Smaller ones would stay in a core's own cache, but then
#: calling the passes costs more than that saves.
TILE = 128 * 1024
_ON_DEVICE = 4 * 1024**2
_CODES = 0x7F80 + 1  # of bfloat16: zero … infinity
_AT_ONCE = 256 * 1024  # codes that are counted together: what a count costs beside is little then
_SHORT = 8192  # elements up to which BLAS is sure to multiply in the thread that asks


class Sheet:
    """Room for [rows, columns] of double precision: a ``tensor``, and on a CPU the same memory as an ``array``."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.array = tensor.numpy() if tensor.device.type == "cpu" else None


class Tile:
    """Room for a tile of the reference and of one candidate: logits, and weights (exponentials)."""

    def __init__(self, room: Tensor, rows: int, columns: int) -> None:
        sheets = [Sheet(part[: rows * columns].view(rows, columns)) for part in room]
        self.reference, self.weights, self.other, self.other_weights = sheets


class Counts:
    """How many numbers, none below zero, are which after rounding to bfloat16, by its bits; by candidate."""

    def __init__(self, names: Iterable[str], device: torch.device, most: int = _AT_ONCE) -> None:
        """At most ``most`` of them come at once."""
        self._counts = {name: torch.zeros(_CODES, dtype=torch.int64) for name in names}
        self._waiting = {name: torch.empty(0, dtype=torch.bfloat16, device=device) for name in names}
        self._room, self._used = max(most, _AT_ONCE), dict.fromkeys(self._counts, 0)

    @property
    def names(self) -> list[str]:
        return list(self._counts)

    def __getitem__(self, name: str) -> Tensor:
        """[codes]."""
        return self._counts[name]

    def note(self, name: str, values: Tensor) -> None:
        if self._used[name] + values.numel() > self._room:
            self._count(name)
        if not len(self._waiting[name]):
            self._waiting[name] = self._waiting[name].new_empty(self._room)
        place = slice(self._used[name], self._used[name] + values.numel())
        self._waiting[name][place] = values.flatten()
        self._used[name] = place.stop

    def join(self, other: "Counts") -> None:
        """Add what another one was given."""
        for name, counts in self._counts.items():
            other._count(name)
            counts += other[name]

    def _count(self, name: str) -> None:
        self._counts[name] += count_by_code(self._waiting[name][: self._used[name]])
        self._used[name] = 0


Work = Callable[[slice, Tile, Counts], None]


def in_tiles(rows: int, columns: int, device: torch.device, work: Work, counts: Counts) -> None:
    """Let ``work`` take all rows of as many columns, some at a time and each once, in no order; what it notes is added
    to ``counts``."""
    cpu = device.type == "cpu"
    most = max(TILE if cpu else _ON_DEVICE, columns)
    step = max(1, most // max(1, columns))
    starts = iter(range(0, rows, step))  # one for all threads

    def run() -> Counts:
        noted, tile = Counts(counts.names, device, most), None
        with torch.inference_mode(), np.errstate(all="ignore"):
            for start in starts:
                taken = slice(start, min(start + step, rows))
                if tile is None or taken.stop - start < step:
                    tile = Tile(_room(step * columns, device), taken.stop - start, columns)
                work(taken, tile, noted)
        return noted

    count = min(torch.get_num_threads() if cpu else 1, -(-rows // step))
    if count < 2:
        counts.join(run())
    else:
        pool = _threads(torch.get_num_threads())
        for one in [pool.submit(run) for _ in range(count)]:
            counts.join(one.result())


def _room(elements: int, device: torch.device) -> Tensor:
    """Four times as many doubles; those of this thread on a CPU, since to ask the system for a megabyte again and again
    takes longer than a pass over it."""
    if device.type != "cpu":
        return torch.empty((4, elements), dtype=torch.float64, device=device)
    held: Tensor | None = getattr(_OWN, "room", None)
    if held is None or held.numel() < 4 * elements:
        held = _OWN.room = torch.empty(4 * elements, dtype=torch.float64)
    return held[: 4 * elements].view(4, elements)


_OWN = local()


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Of which each computes alone."""
    pool = ThreadPoolExecutor(count, "statistics")
    together = Barrier(count)

    def alone() -> None:
        together.wait()  # one for each thread
        torch.get_num_threads()  # a thread's first question sets its number, to the last that any was given
        torch.set_num_threads(1)

    for one in [pool.submit(alone) for _ in range(count)]:
        one.result()
    torch.set_num_threads(count)  # for threads that are yet to come
    return pool


def sums(values: Tensor) -> Vector:
    """Of each row of [rows, columns]."""
    found: Vector = values.sum(1).cpu().numpy()
    return found


def dots(one: Sheet, other: Sheet) -> Vector:
    """Σ one · other of each row: by BLAS on a CPU, where a product that is written and then summed takes three times
    as long."""
    a, b = one.array, other.array
    if a is None or b is None:
        found: Vector = torch.linalg.vecdot(one.tensor, other.tensor).cpu().numpy()
        return found
    total: Vector = np.vecdot(a[:, :_SHORT], b[:, :_SHORT])
    for start in range(_SHORT, a.shape[1], _SHORT):
        part = slice(start, start + _SHORT)
        total += np.vecdot(a[:, part], b[:, part])
    return total


def count_by_code(absolute: Tensor) -> Tensor:
    """How many of these numbers, none below zero, are which after rounding to bfloat16: by its bits, on the CPU."""
    codes = absolute.to(torch.bfloat16).flatten().view(torch.int16)
    return torch.bincount(codes, minlength=_CODES).cpu()
