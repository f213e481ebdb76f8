"""Encoders that were saved without what sat on top of them: a head that config.json still names, or a pooler.

transformers would fill both with random numbers. Hidden states need neither, so the model is taken for what the file
holds: the encoder alone.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import UnsupportedModel

_MOST = 10_000  # layers or experts; a config that promises more would be built for hours

# Architecture and checkpoint's id → what is known of it, since it takes building a model without weights.
_stored: dict[tuple[str, str], str] = {}
_pooling: dict[tuple[str, str], bool] = {}


def stored_architecture(checkpoint: Checkpoint, config: Callable[[], Any], decodes: bool) -> str:
    """The architecture that config.json names, or its base where the file holds nothing of the head.

    A decoder (``decodes``) without its head is damaged, unless its names are those that its base alone is saved with.
    """
    named = checkpoint.architecture
    class_ = getattr(transformers, named, None)
    base = _base_of(checkpoint)
    if base in (None, named) or class_ is None or not checkpoint.tensors or checkpoint.quantization is not None:
        return named
    prefix = f"{getattr(class_, 'base_model_prefix', '')}."
    inside = [name.startswith(prefix) for name in checkpoint.tensors]
    if any(inside) and (decodes or not all(inside)):
        return named
    key = named, checkpoint.id
    if key not in _stored:
        head = _head(class_, prefix, config, {name.removeprefix(prefix) for name in checkpoint.tensors})
        # Older files may have it under a longer name: transformers renames those as it reads.
        there = any(name == part or name.endswith(f".{part}") for name in checkpoint.tensors for part in head)
        _stored[key] = named if not head or there else str(base)
    return _stored[key]


def _base_of(checkpoint: Checkpoint) -> str | None:
    """The class that transformers lists for the model type alone."""
    found: Any = modeling_auto.MODEL_MAPPING_NAMES.get(str(checkpoint.config.get("model_type")), "")
    name = found if isinstance(found, str) else str(found[0])
    return name if hasattr(transformers, name) else None


def _head(class_: Any, prefix: str, config: Callable[[], Any], held: set[str]) -> set[str]:
    """Parameters outside the base that no other one is tied to; none where there is no base to tell them from, or the
    file holds nothing of it (``held``: names less the base's prefix)."""
    model = _empty(class_, config)
    if (
        model is None
        or model.base_model is model
        or not held & {name for name, _ in model.base_model.named_parameters()}
    ):
        return set()
    # Tied ones are named once, under the base's name.
    return {name for name, _ in model.named_parameters() if not name.startswith(prefix)}


def _empty(class_: Any, config: Callable[[], Any]) -> Any:
    """The model on the meta device; None where it cannot be built, which is said where it is built to be used."""
    given = config()
    must_end(given.to_dict().items())
    try:
        with torch.device("meta"):
            return class_._from_config(given)
    except Exception:  # architectures raise whatever their code raises
        return None


def must_end(settings: Iterable[tuple[str, Any]]) -> None:
    """Raises ``UnsupportedModel`` where a config promises more layers or experts than can be built."""
    for key, value in settings:
        if isinstance(value, dict):
            must_end(value.items())
        elif isinstance(value, int) and value > _MOST and ("layer" in key or "expert" in key) and "dim" not in key:
            raise UnsupportedModel(f"config.json says {key} = {value}.", "Check the file, or choose another model.")


def lacks_pooler(checkpoint: Checkpoint, class_: Any, config: Callable[[], Any]) -> bool:
    """Whether the architecture has a pooler with weights, and the file holds none of them."""
    if "pooler" not in class_.__init__.__code__.co_names:
        return False
    if any("pooler" in name.split(".") for name in checkpoint.tensors):
        return False
    key = class_.__name__, checkpoint.id
    if key not in _pooling:
        model = _empty(class_, config)
        pooler = getattr(model, "pooler", None)
        _pooling[key] = isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters())
    return _pooling[key]


def without_pooler(class_: Any) -> Any:
    """The same architecture, whose pooler has no weights and gives None."""

    def begin(self: Any, *given: Any, **named: Any) -> None:
        class_.__init__(self, *given, **named)
        self.pooler = _NoPooler()

    return type(class_.__name__, (class_,), {"__init__": begin, "__module__": class_.__module__})


class _NoPooler(nn.Module):
    def forward(self, *_: Any) -> None:
        return None
