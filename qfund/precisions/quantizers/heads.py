"""Output heads, and those that multiply in another dtype than they are stored in."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qfund.core.errors import NothingConverted
from qfund.precisions.backends.conversion import multiplies_only
from qfund.precisions.precision import Precision


def output_heads(model: nn.Module) -> set[nn.Module]:
    """Of the model and of its parts: a captioner's head is known to its text decoder only."""
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    return {head for part in parts if (head := part.get_output_embeddings()) is not None}


def heads_of(model: nn.Module, row: Precision) -> dict[str, nn.Module]:
    """The output heads by name, of the model and of its parts.

    Raises:
        NothingConverted: there is none, or its product is not its own, where the row has a word on heads.
    """
    heads = output_heads(model)
    found = {name: module for name, module in model.named_modules() if module in heads}
    out_of_reach = any(not multiplies_only(head) for head in found.values())
    if row.head and (not found or out_of_reach):
        why = "does more than multiply" if found else "is not there: it predicts no tokens"
        raise NothingConverted(
            f"{row.label} would change nothing in {type(model).__name__}: its output head {why}.",
            "Choose the cast of the whole model.",
        )
    return found


def widen_heads(model: nn.Module, row: Precision) -> None:
    """Let output heads multiply in the dtype that the row names for them; what they store stays as it is.

    Raises:
        NothingConverted: as ``heads_of``.
    """
    if row.head is None:
        return
    wide: torch.dtype = getattr(torch, row.head)

    def forward(self: Any, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(wide)
        return nn.functional.linear(x.to(wide), self.weight.to(wide), bias)

    for head in heads_of(model, row).values():
        original = type(head)
        head.__class__ = type(original.__name__, (original,), {"forward": forward})
