"""An architecture without weights, on the meta device."""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import QfundError, UnsupportedModel
from qfund.models.configs import why_not_built
from qfund.models.match.bare import must_end
from qfund.models.tasks import model_class, read_config

Made = TypeVar("Made")
_META = torch.device("meta")


class _Unfilled(TorchFunctionMode):
    """Where weights on the meta device are not filled at random, and (with ``ranges``) ranges lie in main memory, and
    so what is computed of them: positions and frequencies. There is nothing to fill; torch does both on the meta device
    with what imports its compiler or a library for symbolic numbers, which takes longer than a small comparison."""

    def __init__(self, ranges: bool) -> None:
        super().__init__()
        self._ranges = ranges

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in (torch.nn.init.normal_, torch.Tensor.normal_):
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        if func is torch.arange and self._ranges and named.get("device") == _META:
            named = named | {"device": "cpu"}
        return func(*args, **named)


def unfilled(make: Callable[[], Made]) -> Made:
    """What ``make`` makes on the meta device, with as little work for it as torch lets one do. Raises as ``make``."""
    try:
        with _Unfilled(ranges=True):
            return make()
    except (QfundError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # what computes with ranges and with weights at once; or it cannot be made
        with _Unfilled(ranges=False):
            return make()


def build(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model that config.json describes, in a dtype; buffers lie on the meta device too.

    Raises:
        UnsupportedModel: the architecture cannot be built.
    """
    must_end(checkpoint.config.items())
    config = read_config(checkpoint)
    class_ = _class(checkpoint, config)
    try:
        return _built(class_, config, dtype)
    except Exception as error:  # architectures raise whatever their code raises, ImportError for a missing library
        why = why_not_built(checkpoint.config) or f"{type(error).__name__}: {error}"
        raise UnsupportedModel(
            f"{checkpoint.architecture} cannot be built from its config.json: {why}",
            "Check the file, install what the model needs, or choose another model.",
        ) from error


def _built(class_: Any, config: Any, dtype: torch.dtype) -> Any:
    def make() -> Any:
        with _META:
            return class_._from_config(config, dtype=dtype)

    model = unfilled(make)
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for places in (module._buffers, vars(module)):
            for name, value in places.items():
                if isinstance(value, torch.Tensor) and not value.is_meta:
                    places[name] = moved.setdefault(id(value), value.to(_META))
    return model


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
