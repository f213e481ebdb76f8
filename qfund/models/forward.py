"""One forward of a loaded model, without a cache."""

import inspect
from typing import Any

import torch

from qfund.models import inputs
from qfund.models.loading import arguments, arithmetic
from qfund.precisions.precision import Precision


@torch.inference_mode()
def run(model: Any, batch: inputs.Batch, row: Precision) -> Any:
    """The model's output, without a cache."""
    given = arguments(model, batch.arguments, model.device)
    if "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False
    with arithmetic(row):
        return model(**given)
