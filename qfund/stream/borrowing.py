"""One model's modules run with another precision's weights: on what the first one gives them, and back."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qfund.models.forward import arithmetic
from qfund.precisions.precision import Precision

Forward = Callable[..., Any]


def borrowed(module: nn.Module, row: Precision, back: Precision) -> Forward:
    """The forward of a module of a model in ``row``, to stand in one in ``back``: what it is given is cast to the base
    dtype that it computes in, and what it gives to the other's."""
    dtype, own = getattr(torch, row.dtype), getattr(torch, back.dtype)

    def forward(*args: Any, **named: Any) -> Any:
        with arithmetic(row):
            if dtype == own:
                return module.forward(*args, **named)
            return _cast(module.forward(*_cast(args, dtype), **_cast(named, dtype)), own)

    return forward


@contextmanager
def running(instead: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Modules with other forwards than their own, while the block runs."""
    for module, forward in instead.items():
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in instead:
            del module.__dict__["forward"]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Tensors of floats, also inside of tuples, lists and dictionaries, in another dtype."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_cast(part, dtype) for part in value)
    if isinstance(value, dict):
        return {key: _cast(part, dtype) for key, part in value.items()}
    return value
