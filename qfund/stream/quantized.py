"""Quantised weights of a unit: made in pieces on all cores, and kept on disk for the next time."""

import functools
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import torch
from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import CorruptCheckpoint
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers import conversion
from qfund.precisions.quantizers.plan import LINEAR, View
from qfund.precisions.quantizers.quantizer import Quantizer
from qfund.stream.disk import Disk

Stored = dict[str, Tensor]
#: Weights of one piece: its temporaries stay in a core's cache.
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """A weight that is to be quantised: the name of its first place in the model, its values, and what quantises it."""

    name: str
    view: View
    tensor: Tensor
    quantizer: Quantizer


class Quantized:
    """Quantises the weights of one checkpoint.

    Attributes:
        saturated: precision → weight → how many of its values were clipped; those with none are not listed.
    """

    def __init__(self, checkpoint: Checkpoint, disk: Disk) -> None:
        self.saturated: dict[str, dict[str, int]] = {}
        self._checkpoint, self._disk = checkpoint, disk

    def of(self, row: Precision, unit: str, jobs: Sequence[Job], checkpoint: str | None = None) -> dict[str, Stored]:
        """What is stored of each weight, by its name; ``checkpoint`` is the id of another one that they are of.

        Raises:
            CorruptCheckpoint: a value is NaN or infinite, which no scale can hold.
        """
        assert row.quantizer is not None
        key = checkpoint or self._checkpoint.id, str(row.quantizer), row.dtype, unit, *(job.name for job in jobs)
        kept = self._disk.read(key) if self._disk.limit else None
        if kept is None:
            found, clipped = {}, {}
            for job in jobs:
                found[job.name], clipped[job.name] = quantize(job)
            if self._disk.limit:
                flat = {f"{name}:{part}": tensor for name, stored in found.items() for part, tensor in stored.items()}
                self._disk.write(key, flat, {name: str(count) for name, count in clipped.items() if count})
        else:
            found = {job.name: {} for job in jobs}
            for place, tensor in kept[0].items():
                name, _, part = place.rpartition(":")
                found[name][part] = tensor
            clipped = {name: int(count) for name, count in kept[1].items()}
        for name, count in clipped.items():
            if count:
                self.saturated.setdefault(row.name, {})[name] = count
        return found


def quantize(job: Job) -> tuple[Stored, int]:
    """What ``conversion.quantize`` gives, in pieces of some rows where a quantiser takes each row by itself."""
    matrix, quantizer = job.view.flat(job.tensor), job.quantizer
    rows, columns = matrix.shape
    step = max(1, _PIECE // columns)
    if step >= rows or not quantizer.by_rows(columns):
        return conversion.quantize(job.name, job.tensor, job.view, quantizer)

    def piece(start: int) -> tuple[Stored, int]:
        return conversion.quantize(job.name, matrix[start : start + step], LINEAR, quantizer)

    try:
        pieces = list(pool().map(piece, range(0, rows, step)))
    except CorruptCheckpoint:
        conversion.quantize(job.name, job.tensor, job.view, quantizer)  # raises it with all that is wrong
        raise
    joined = {key: torch.cat([stored[key] for stored, _ in pieces]) for key in pieces[0][0]}
    return joined, sum(clipped for _, clipped in pieces)


@functools.cache
def pool() -> Executor:
    """A thread a core, each of which computes by itself."""
    threads = torch.get_num_threads()
    together = Barrier(threads)

    def alone() -> None:
        torch.set_num_threads(1)
        together.wait()

    made = ThreadPoolExecutor(threads, "quantise")
    for started in [made.submit(alone) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)  # for this thread, and for libraries that know one number only
    return made
