"""Logits gone through in tiles that a core's cache holds, by as many threads as torch has.

A pass over a tile is some microseconds of one core: shared among threads pass by pass, as torch would, it costs more to
wake and to wait for them than to compute. So every thread takes a tile through all passes, and then the next.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock, local
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfund.core.intervals import Vector

#: Elements of a tile on a CPU: a megabyte in double precision. Smaller ones would stay in a core's own cache, but then
#: calling the passes costs more than that saves.
TILE = 128 * 1024
_ON_DEVICE = 4 * 1024**2
_CODES = 0x7F80 + 1  # of bfloat16: zero … infinity
_SHORT = 8192  # elements up to which BLAS is sure to multiply in the thread that asks


class Sheet:
    """Numbers [rows, columns] in double precision, and passes over them: NumPy's on a CPU, which are called in a third
    of the time that torch's take. What a pass finds of each row, [rows], it writes to ``into``."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.array = tensor.numpy() if tensor.device.type == "cpu" else None
        self._flat: Any = tensor.view(-1) if self.array is None else self.array.reshape(-1)

    def put(self, places: Any, values: Any) -> None:
        """``values`` where ``places`` counts to, row after row; arrays on a CPU, and else tensors."""
        self._flat[places] = values

    def sums(self, into: Vector) -> None:
        if self.array is None:
            into[:] = self.tensor.sum(1).cpu().numpy()
        else:
            np.add.reduce(self.array, 1, out=into)

    def largest(self, into: Vector) -> None:
        if self.array is None:
            into[:] = self.tensor.amax(1).cpu().numpy()
        else:
            np.maximum.reduce(self.array, 1, out=into)

    def dots(self, other: "Sheet", into: Vector) -> None:
        """Σ of products: by BLAS on a CPU, where to write them and then to sum takes three times as long."""
        a, b = self.array, other.array
        if a is None or b is None:
            into[:] = torch.linalg.vecdot(self.tensor, other.tensor).cpu().numpy()
            return
        np.vecdot(a[:, :_SHORT], b[:, :_SHORT], out=into)
        for start in range(_SHORT, a.shape[1], _SHORT):
            part = slice(start, start + _SHORT)
            into += np.vecdot(a[:, part], b[:, part])

    def subtract_from(self, other: "Sheet") -> None:
        """What is left of the other one, here."""
        if self.array is None or other.array is None:
            torch.sub(other.tensor, self.tensor, out=self.tensor)
        else:
            np.subtract(other.array, self.array, out=self.array)

    def magnitudes(self) -> None:
        """Without their signs."""
        if self.array is None:
            self.tensor.abs_()
        else:
            np.abs(self.array, out=self.array)


class Tile:
    """Room for a tile of the reference and of one candidate: logits, and weights (exponentials). ``rounded`` is the
    other weights' own room once more, as numbers of bfloat16."""

    def __init__(self, room: Tensor, rows: int, columns: int) -> None:
        sheets = [Sheet(part[: rows * columns].view(rows, columns)) for part in room]
        self.reference, self.weights, self.other, self.other_weights = sheets
        self.rounded = room[3].view(torch.bfloat16)[: rows * columns]


class Counts:
    """How many numbers, none below zero, are which after rounding to bfloat16, by its bits: [codes]."""

    def __init__(self) -> None:
        self.counts = torch.zeros(_CODES, dtype=torch.int64)
        self._array, self._lock = self.counts.numpy(), Lock()

    def note(self, values: Tensor, rounded: Tensor) -> None:
        """Count these; there is room for as many in ``rounded``."""
        here = rounded[: values.numel()].copy_(values.view(-1))
        found = torch.bincount(here.view(torch.int16)).cpu().numpy()
        with self._lock:
            self._array[: len(found)] += found


Work = Callable[[slice, Tile], None]


def in_tiles(rows: int, columns: int, device: torch.device, work: Work) -> None:
    """Let ``work`` take all rows of as many columns, some at a time and each once, in no order."""
    cpu = device.type == "cpu"
    step = max(1, (TILE if cpu else _ON_DEVICE) // max(1, columns))
    starts = iter(range(0, rows, step))  # one for all threads

    def run() -> None:
        tile = None
        with torch.inference_mode(), np.errstate(all="ignore"):
            for start in starts:
                taken = slice(start, min(start + step, rows))
                if tile is None or taken.stop - start < step:
                    tile = Tile(_room(step * columns, device), taken.stop - start, columns)
                work(taken, tile)

    count = min(torch.get_num_threads() if cpu else 1, -(-rows // step))
    if count < 2:
        run()
    else:
        pool = _threads(torch.get_num_threads())
        for one in [pool.submit(run) for _ in range(count)]:
            one.result()


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


def count_by_code(absolute: Tensor) -> Tensor:
    """How many of these numbers, none below zero, are which after rounding to bfloat16: by its bits, on the CPU."""
    codes = absolute.to(torch.bfloat16).flatten().view(torch.int16)
    return torch.bincount(codes, minlength=_CODES).cpu()
