"""One forward of a loaded model, without a cache: its arguments, its arithmetic, and its errors in words."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError, UnsupportedModel, out_of_memory
from qfund.models import inputs
from qfund.precisions.precision import Precision


@torch.inference_mode()
def run(model: Any, batch: inputs.Batch, row: Precision) -> Any:
    """The model's output, without a cache."""
    given = arguments(model, batch.arguments, model.device)
    if "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False
    with arithmetic(row):
        return model(**given)


def arguments(model: Any, batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, Any]:
    """Of a model's forward: the tensors of a batch on its device, floats in its dtype, and no cache."""
    found: dict[str, Any] = {
        name: value.to(device, model.dtype) if value.is_floating_point() else value.to(device)
        for name, value in batch.items()
    }
    # A cache would only cost memory; a model that knows none ignores the setting in its config.
    if getattr(model.config, "use_cache", False):
        found["use_cache"] = False
    return found


@contextmanager
def explained(model: Any, row: Precision, what: str = "be run") -> Iterator[None]:
    """Say which model cannot do what in which precision, whatever its code raises; out of memory stays as it is."""
    try:
        yield
    except QfundError:
        raise
    except Exception as error:  # models raise whatever their code and torch's kernels raise
        if out_of_memory(error):
            raise
        raise UnsupportedModel(
            f"{type(model).__name__} cannot {what} in {row.label} here: {type(error).__name__}: {error}",
            "Choose another model or precision.",
        ) from error


@contextmanager
def arithmetic(row: Precision) -> Iterator[None]:
    """Let multiplications of fp32 on a GPU run in TF32 for that row alone (cuDNN would do so for every convolution),
    and torch choose dtypes for a row that asks for autocast. It may be entered anew for each part of a forward."""
    cuda: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in cuda]
    for part in cuda:
        part.fp32_precision = "tf32" if row.name == "tf32" else "ieee"
    try:
        with _autocast(row):
            yield
    finally:
        for part, setting in zip(cuda, before, strict=True):
            part.fp32_precision = setting


def _autocast(row: Precision) -> AbstractContextManager[object]:
    if row.autocast is None:
        return nullcontext()
    return torch.autocast(torch.device(catalog.device()).type, getattr(torch, row.autocast))
