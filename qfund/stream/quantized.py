"""Quantised weights of a unit: made once, and kept on disk for the next time."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers import pieces
from qfund.precisions.quantizers.plan import View
from qfund.precisions.quantizers.quantizer import Quantizer
from qfund.stream.disk import Disk

Stored = dict[str, Tensor]


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
                found[job.name], clipped[job.name] = pieces.quantize(job.name, job.tensor, job.view, job.quantizer)
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
