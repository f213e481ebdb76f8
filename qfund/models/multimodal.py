"""What of a language model is there for pictures or sound, which a text alone never runs, and what that weighs."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.tensors import TensorRow
from qfund.core.units import bytes_text
from qfund.models.meta import build
from qfund.models.tasks import reads_text_alone
from qfund.precisions.quantizers.heads import output_heads

_SHOWN = 3  # names in a sentence


def parts_beside_text(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The outermost modules with weights that are no part of the language model, which transformers' ``get_decoder``
    gives; none where the architecture keeps both in one.

    Raises:
        UnsupportedModel: the architecture cannot be built.
    """
    if not reads_text_alone(checkpoint):
        return ()
    model = build(checkpoint, torch.float32)
    decoder = model.get_decoder()
    language = {*_language(decoder), *output_heads(model), model.get_input_embeddings()}
    return tuple(_outside(model, language))


def _language(decoder: nn.Module) -> set[nn.Module]:
    """What is in a decoder, but for models of another kind inside it: an encoder of pictures."""
    inner = [part for part in decoder.modules() if isinstance(part, PreTrainedModel)]
    config: Any = decoder.config
    others = [part for part in inner if type(part.config) is not type(config)]
    other = {module for part in others for module in part.modules()}
    return {*decoder.modules()} - other


def _outside(model: nn.Module, language: set[nn.Module], prefix: str = "") -> Iterable[str]:
    for name, child in model.named_children():
        inside = {*child.modules()}
        if inside <= language or next(child.parameters(), None) is None:
            continue
        if inside.isdisjoint(language):
            yield f"{prefix}{name}"
        else:
            yield from _outside(child, language, f"{prefix}{name}.")


def sentence(parts: tuple[str, ...], stored: Mapping[str, Iterable[TensorRow]]) -> str:
    """What ``parts`` weigh, by the label of a precision, and how much of them it converted."""
    sizes = []
    for label, rows in stored.items():
        held = [row for row in rows if row.name.startswith(tuple(f"{part}." for part in parts))]
        matrices = [row for row in held if row.kind == "weight" and len(row.shape) > 1]
        converted = sum(row.dtype != row.logical for row in matrices)
        how = f" ({converted:,} of {len(matrices):,} matrices converted)" if converted else ""
        sizes.append(f"{bytes_text(sum(row.bytes for row in held))} in {label}{how}")
    names = f"{', '.join(parts[:_SHOWN])}{', …' * (len(parts) > _SHOWN)}"
    return (
        f"Text is read alone: what is there for pictures or sound ({names}) has no part in the outputs. It takes "
        f"{', '.join(sizes)}."
    )
