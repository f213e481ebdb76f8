"""What stands for a weight that is not there: whoever computes with it is told so.

The meta device alone would not do. On a CPU, torch 2.13 takes a meta tensor as the weight of a linear layer, a matrix
product or a convolution without complaint, and gives whatever lies in memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

#: What may be asked of it: what it looks like.
_LOOKS = {
    Tensor.size,
    Tensor.dim,
    Tensor.ndimension,
    Tensor.stride,
    Tensor.storage_offset,
    Tensor.numel,
    Tensor.nelement,
    Tensor.element_size,
    Tensor.is_floating_point,
    Tensor.is_complex,
    Tensor.is_contiguous,
    Tensor.get_device,
    Tensor.detach,
    Tensor.requires_grad_,
    Tensor.__len__,
    Tensor.__repr__,
    torch.numel,
    torch.is_floating_point,
    torch.is_complex,
}


class UsedAbsent(RuntimeError):
    """A model computes with a weight outside of the part that the weight belongs to."""


class Absent(Tensor):
    """A tensor on the meta device that has a shape and a dtype, and can be used for nothing."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # Attributes are harmless: those that are tensors (``.T``, ``.data``) are absent too.
        if func in _LOOKS or getattr(func, "__name__", "") == "__get__":
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        name = getattr(func, "__name__", str(func))
        raise UsedAbsent(f"{name} was called with a weight that is read later")


def absent(tensor: Tensor) -> Absent:
    """What stands for a tensor of the meta device."""
    found = tensor.detach().as_subclass(Absent)
    found._is_param = True  # by which torch tells parameters: conversions look shapes up
    return found
