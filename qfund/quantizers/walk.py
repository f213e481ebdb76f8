"""Apply a quantiser to a whole model, keep tied weights tied, and report what was converted and what was left.

A converted module keeps its class and its forward: its ``weight`` becomes a property that dequantises what is stored.
So any architecture runs unmodified (also where a parent reads ``child.weight`` itself); what is stored are buffers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from qfund.errors import NothingConverted
from qfund.precisions import Precision
from qfund.report import LeftModule


class Layout(NamedTuple):
    """A stored tensor's dtype and shape."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Quantizer(Protocol):
    """Turns a float weight [out, in] into named stored tensors and back; ``layout`` foretells them from the shape."""

    def quantize(self, weight: Tensor) -> dict[str, Tensor]: ...
    def dequantize(self, stored: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor: ...
    def layout(self, out_features: int, in_features: int) -> dict[str, Layout]: ...


#: A stored tensor named ``data`` becomes the buffer ``weight_data`` of its module, ``scale`` becomes ``weight_scale``.
PREFIX = "weight_"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a quantiser converts in a model (names of modules) and what it leaves, with the reason."""

    converted: tuple[str, ...]
    left: tuple[LeftModule, ...]


def plan(model: nn.Module) -> Plan:
    """Decide which modules are converted: every Linear and GPT-2 Conv1D but the output head.

    Works on a model on the meta device too. A module that owns weights of two or more dimensions and is not converted
    is listed with the reason; norms and biases are one-dimensional and always stay.
    """
    # Of the parts too: a captioner's head is known to its text decoder only.
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    heads = [head for part in parts if (head := part.get_output_embeddings()) is not None]
    uses: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    converted: list[str] = []
    left: list[LeftModule] = []
    for name, module in model.named_modules():
        matrices = {key: value for key, value in module.named_parameters(recurse=False) if value.dim() >= 2}
        if not matrices:
            continue
        why = _why_left(module, heads, matrices, uses)
        if why is None:
            converted.append(name)
        else:
            left.append(LeftModule(name or "(the model itself)", type(module).__name__, why))
    return Plan(tuple(converted), tuple(left))


def _why_left(
    module: nn.Module, heads: list[nn.Module], matrices: dict[str, nn.Parameter], uses: dict[int, int]
) -> str | None:
    if any(module is head for head in heads):
        return "the output head: errors there go straight to the logits"
    if isinstance(module, nn.Linear | Conv1D) and "weight" in matrices:
        if uses[id(matrices["weight"])] > 1:
            return "shares its weight with another module, which would become a second copy"
        return None
    if isinstance(module, nn.Embedding):
        return "an embedding: a look-up, not a multiplication"
    if "Conv" in type(module).__name__:
        return "a convolution"
    shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in matrices.items())
    return f"no Linear layer: it uses its own {shapes} directly"


def quantizer_of(row: Precision) -> Quantizer | None:
    """The quantiser that a row of the table names, imported now; None for a cast."""
    if row.quantizer is None:
        return None
    module, _, name = row.quantizer.partition(":")
    found: Quantizer = getattr(__import__(module, fromlist=[name]), name)
    return found


def out_in(module: nn.Module, weight: Tensor) -> tuple[int, int]:
    """A weight's shape as [out, in]; Conv1D stores it the other way round."""
    first, second = weight.shape
    return (second, first) if isinstance(module, Conv1D) else (first, second)


@torch.no_grad()
def quantize_model(model: nn.Module, row: Precision) -> Plan:
    """Convert a loaded float model in place.

    Raises:
        NothingConverted: the model has no module that this precision converts.
    """
    quantizer = quantizer_of(row)
    assert quantizer is not None
    found = plan(model)
    if not found.converted:
        raise NothingConverted(
            f"{row.label} would convert nothing in {type(model).__name__}: it has no Linear layer outside its head.",
            "Choose a float cast (bf16, fp16) for this model.",
        )
    for name in found.converted:
        _convert(model.get_submodule(name), quantizer)
    return found


def _convert(module: nn.Module, quantizer: Quantizer) -> None:
    weight: Tensor = module.weight  # type: ignore[assignment]
    transposed = isinstance(module, Conv1D)
    stored = quantizer.quantize(weight.T if transposed else weight)
    dtype = weight.dtype
    del module.weight

    def read(self: Any) -> Tensor:
        restored = quantizer.dequantize({key: getattr(self, PREFIX + key) for key in stored}, dtype)
        return restored.T if transposed else restored

    for key, tensor in stored.items():
        module.register_buffer(PREFIX + key, tensor.contiguous())
    original = type(module)
    # nn.Module looks attributes up on the class first, so a property there stands for the deleted parameter.
    module.__class__ = type(original.__name__, (original,), {"weight": property(read), "quantizer": quantizer})
