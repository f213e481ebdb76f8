"""Whether weights and config.json speak of one vocabulary."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import CorruptCheckpoint
from qfund.models.meta import build


def must_have_its_vocabulary(checkpoint: Checkpoint) -> None:
    """Refuse, from headers alone, weights whose vocabulary is not the one in config.json.

    Raises:
        CorruptCheckpoint: with both sizes.
        UnsupportedModel: the architecture cannot be built.
    """
    if checkpoint.quantization is not None:  # shapes are those of codes
        return
    model = build(checkpoint, torch.float32)
    prefix = f"{model.base_model_prefix}."
    places = [found for found in (_input_embeddings(model), model.get_output_embeddings()) if found is not None]
    for name, module in model.named_modules():
        if not any(module is place for place in places):
            continue
        weight = getattr(module, "weight", None)
        for key in (f"{name}.weight", f"{prefix}{name}.weight", f"{name}.weight".removeprefix(prefix)):
            stored = checkpoint.tensors.get(key)
            if stored and isinstance(weight, torch.Tensor) and stored.shape != tuple(weight.shape):
                raise CorruptCheckpoint(
                    f"The vocabulary of {checkpoint.folder.name} differs: {key} is {_times(stored.shape)} in the "
                    f"weights, and {_times(weight.shape)} by config.json.",
                    "Put the config.json of these weights beside them, or save the model again with its tokenizer.",
                )


def _input_embeddings(model: Any) -> nn.Module | None:
    try:
        found: nn.Module | None = model.get_input_embeddings()
    except NotImplementedError:  # there is no one place for them
        return None
    return found


def _times(shape: Iterable[int]) -> str:
    return " × ".join(f"{size:,}" for size in shape)
