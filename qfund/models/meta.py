"""An architecture without weights, on the meta device."""

import importlib
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import UnsupportedModel
from qfund.models.configs import why_not_built
from qfund.models.match.bare import must_end
from qfund.models.tasks import model_class, read_config


class Unfilled(TorchFunctionMode):
    """Where weights on the meta device are not filled at random: there is nothing to fill, and torch does it with what
    imports its whole compiler, a second of work."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in (torch.nn.init.normal_, torch.Tensor.normal_):
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)


def build(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model that config.json describes, in a dtype; buffers lie on the meta device too.

    Raises:
        UnsupportedModel: the architecture cannot be built.
    """
    must_end(checkpoint.config.items())
    config = read_config(checkpoint)
    class_ = _class(checkpoint, config)
    try:
        with torch.device("meta"), Unfilled():
            return class_._from_config(config, dtype=dtype)
    except Exception as error:  # architectures raise whatever their code raises, ImportError for a missing library
        why = why_not_built(checkpoint.config) or f"{type(error).__name__}: {error}"
        raise UnsupportedModel(
            f"{checkpoint.architecture} cannot be built from its config.json: {why}",
            "Check the file, install what the model needs, or choose another model.",
        ) from error


def _class(checkpoint: Checkpoint, config: Any) -> Any:
    """The architecture's class, also where transformers does not export it."""
    try:
        return model_class(checkpoint)
    except UnsupportedModel:
        file = type(config).__module__.replace(".configuration_", ".modeling_")
        if not file.startswith("transformers.models."):
            raise
        found = getattr(importlib.import_module(file), checkpoint.architecture, None)
        if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
            raise
        return found
