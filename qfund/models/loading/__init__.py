"""Checkpoint + precision → model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.tensors import LeftModule
from qfund.models import footprint, prequantized
from qfund.models.environment import torch_device
from qfund.models.loading.coding import coded
from qfund.models.loading.reading import frame, read, turned
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.quantizers.conversion import Conversion
from qfund.precisions.quantizers.heads import widen_heads
from qfund.precisions.quantizers.plan import Plan
from qfund.precisions.table import require

__all__ = ["LoadedModel", "coded", "frame", "load", "read", "turned"]

transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, ready to run.

    Attributes:
        transformers_bytes: ``get_memory_footprint()`` before any forward.
        converted, left: modules that were quantised, and those with weights of two or more dimensions that were not.
        saturated: name of a weight → how many of its values the format clipped.
        note: a sentence about how it runs, where there is something to say.
    """

    model: Any
    footprint: footprint.Footprint
    transformers_bytes: int
    seconds: float
    converted: tuple[str, ...] = ()
    left: tuple[LeftModule, ...] = ()
    saturated: dict[str, int] = field(default_factory=dict)
    note: str | None = None


def load(checkpoint: Checkpoint, row: Precision, also: Sequence[str] = ()) -> LoadedModel:
    """Read the weights straight into the row's dtype, and quantise each as it is read where the row says so; ``also``
    the kinds of modules named there (``qfund.precisions.request.ALSO``).

    Raises:
        CorruptCheckpoint: tensors missing or of other shapes than the architecture's, or not finite where quantised.
        NothingConverted: the quantiser found nothing to convert.
        UnavailablePrecision: this device cannot run it.
    """
    started = time.perf_counter()
    device = torch_device()
    require(row, str(device))
    if row.family == STORED:
        return _as_stored(checkpoint, device, started)
    if row.quantizer:
        model, conversion = coded(checkpoint, row, also, device)
    else:
        model, conversion = read(checkpoint, row.dtype).to(device), Conversion(Plan((), ()))
    widen_heads(model, row)
    if row.dtype == "float16" and device.type == "cpu":
        for module in model.modules():
            if isinstance(module, Conv1D):
                module.weight.data = turned(module.weight.data)
    return LoadedModel(
        model=model,
        footprint=footprint.stored(model),
        transformers_bytes=int(model.get_memory_footprint()),
        seconds=time.perf_counter() - started,
        converted=conversion.plan.converted,
        left=conversion.plan.left,
        saturated=conversion.saturated,
        note=" ".join(conversion.notes) or None,
    )


def _as_stored(checkpoint: Checkpoint, device: torch.device, started: float) -> LoadedModel:
    """A checkpoint that is quantised already, as transformers reads it."""
    found = prequantized.load_stored(checkpoint, device)
    assert checkpoint.quantization is not None
    notes = [f"The checkpoint is {checkpoint.quantization.description}.", *([found.note] if found.note else [])]
    return LoadedModel(
        model=found.model,
        footprint=footprint.of_library(found.model),
        transformers_bytes=int(found.model.get_memory_footprint()),
        seconds=time.perf_counter() - started,
        converted=found.converted,
        left=found.left,
        note=" ".join(notes),
    )
