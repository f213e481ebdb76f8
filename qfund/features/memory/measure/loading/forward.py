"""One forward of a model that has just been loaded, watched from inside at every module's end."""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import QfundError
from qfund.features.memory.measure.loading.messages import Ran
from qfund.features.memory.measure.loading.phases import Phases, memory, swapped
from qfund.models import inputs
from qfund.models.environment import wait_for
from qfund.models.forward import run
from qfund.models.tasks import task_of
from qfund.precisions.precision import Precision


def prepare(found: Checkpoint, tokens: int) -> inputs.Batch | Ran:
    """The input of the forward, or why there is none."""
    try:
        return inputs.probe(found, task_of(found), tokens)
    except Exception as error:  # configs and image processors raise whatever they raise
        return Ran(problem=_told(error))


def watched(model: Any, batch: inputs.Batch, row: Precision, announce: Callable[[str], None]) -> Ran:
    """Run the model once; what fails is told in the result."""
    samples: list[tuple[float, int, int]] = []

    def sample(*_: object) -> None:
        if sizes := memory():
            samples.append((time.monotonic(), *sizes))

    cuda = model.device.type == "cuda"
    phases = Phases(announce)
    hook = register_module_forward_hook(sample)
    try:
        if cuda:
            torch.cuda.reset_peak_memory_stats(model.device)
        phases.enter("running", model)
        output = run(model, batch, row)
        wait_for(model.device)
        phases.enter("end", model)
        del output  # it was alive until here
        gc.collect()
        phases.enter("end", model)
    except Exception as error:  # models raise whatever their code and torch's kernels raise
        return Ran(problem=_told(error))
    finally:
        hook.remove()
    ids = batch.arguments.get("input_ids", batch.arguments.get("decoder_input_ids"))
    first = next(iter(batch.arguments.values()))
    return Ran(
        borders=phases.borders,
        samples=samples,
        tokens=0 if ids is None else int(ids.shape[1]),
        pictures=len(batch.arguments.get("pixel_values", ())),
        batch=int(first.shape[0]),
        device_peak=torch.cuda.max_memory_allocated(model.device) if cuda else None,
        swapped=swapped(),
    )


def _told(error: Exception) -> str:
    if isinstance(error, QfundError):
        return error.message
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
