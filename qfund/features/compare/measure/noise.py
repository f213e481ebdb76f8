"""The reference run in other ways that should change nothing: how large a difference that means nothing is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.models.inputs import Batch
from qfund.models.tasks import model_class
from qfund.precisions.files import row_of
from qfund.precisions.table import PRECISIONS
from qfund.stream.walker import Way

#: Positions that it is measured on, at least one batch: the floor needs no more.
POSITIONS = 1024
#: Weights of the largest model that is also run in FP64.
_DOUBLE = 100_000_000


@dataclass(frozen=True, slots=True)
class Noise:
    """``name`` as in ``report.NoiseRun``, ``meaning`` in words."""

    name: str
    meaning: str
    way: Way

    def of_reference_with(self, threads: int) -> "Noise":
        """The same beside a reference that computes with so many threads."""
        return self if self.way.threads is None else _threads(self.way, threads)


def ways(
    reference: str, found: Checkpoint, batches: Sequence[Batch], read: Checkpoint | None = None
) -> tuple[Noise, ...]:
    """What can be varied for this model and input; ``read`` is the checkpoint of a reference that is a file."""
    row = row_of(reference)
    count = _few(batches)
    way = Way("noise:threads", row, threads=1, batches=count, checkpoint=read)
    varied = [_threads(way, torch.get_num_threads())]
    if any(len(batch.chunks) > 1 for batch in batches[:count]):
        way = Way("noise:batch", row, singly=True, batches=count, checkpoint=read)
        varied.append(Noise("batch", "each example by itself instead of in batches", way))
    if _fused(found):
        way = Way("noise:attention", row, attention="eager", batches=count, checkpoint=read)
        varied.append(Noise("attention", "with eager attention instead of the fused kernel", way))
    if row.dtype == "float32" and row.quantizer is None and row.autocast is None and _parameters(found) <= _DOUBLE:
        way = Way("noise:fp64", PRECISIONS["fp64"], batches=count, checkpoint=read)
        varied.append(Noise("fp64", f"{row.label} beside the same weights computed in FP64", way))
    return tuple(varied)


def _threads(way: Way, usual: int) -> Noise:
    """``usual``: the reference's number of threads."""
    other = 1 if usual > 1 else max(2, torch.get_num_threads())
    what = f"with {other} thread{'s' * (other > 1)} instead of {usual}"
    return Noise("threads", what, replace(way, threads=other))


def _fused(found: Checkpoint) -> bool:
    """Whether the model has fused attention, and chooses it."""
    class_ = model_class(found)
    return bool(getattr(class_, "_supports_sdpa", False)) and "attn_implementation" not in found.config


def _parameters(found: Checkpoint) -> int:
    return sum(tensor.elements for tensor in found.tensors.values())


def _few(batches: Sequence[Batch]) -> int:
    """How many of the first batches it takes."""
    positions = 0
    for number, batch in enumerate(batches, 1):
        ids = batch.arguments.get("input_ids")
        positions += len(batch.chunks) if ids is None else ids.numel()
        if positions >= POSITIONS:
            return number
    return len(batches)
