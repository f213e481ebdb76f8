"""Quantised weights of a unit: made on all cores, and kept on disk for the next time."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qfund.checkpoint import Checkpoint
from qfund.precisions import Precision
from qfund.quantizers import walk
from qfund.quantizers.quantizer import Quantizer

Stored = dict[str, Tensor]
#: Weights quantised at once: their temporaries stay in a core's cache.
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """A weight that is to be quantised: its first place in the model, and its values."""

    name: str
    view: walk.View
    tensor: Tensor


class Quantised:
    """Quantises the weights of one checkpoint.

    Attributes:
        saturated: precision → weight → how many of its values were clipped; those with none are not listed.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.saturated: dict[str, dict[str, int]] = {}
        self._checkpoint = checkpoint

    def of(self, row: Precision, unit: str, jobs: Sequence[Job]) -> dict[str, Stored]:
        """What is stored of each weight, by its name.

        Raises:
            CorruptCheckpoint: a value is NaN or infinite, which no scale can hold.
        """
        quantizer = walk.quantizer_of(row)
        assert quantizer is not None and row.quantizer is not None
        found = {job.name: quantise(job, quantizer) for job in jobs}
        for name, (_, clipped) in found.items():
            if clipped:
                self.saturated.setdefault(row.name, {})[name] = clipped
        return {name: stored for name, (stored, _) in found.items()}


def quantise(job: Job, quantizer: Quantizer) -> tuple[Stored, int]:
    return walk.quantize(job.name, job.tensor, job.view, quantizer)
