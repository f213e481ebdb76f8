"""How near a running model comes to the largest number of its dtype, and where it first goes beyond."""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from qfund.features.compare.request.report import Range

#: The model's name for itself: ``named_modules`` calls it "".
ROOT = "(the model itself)"
#: Where a model is given something that is not finite, nothing in it is to blame.
INPUTS = "(the model's inputs)"
#: They compute nothing: the lists have no forward, the others give on what they, or their last part, were given.
_LISTS = (nn.ModuleList, nn.ModuleDict)
_PASSING = (*_LISTS, nn.Identity, nn.Dropout, nn.Sequential)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The extremes of one tensor, still on its device. ``given``: it went into the module rather than out of it."""

    module: str
    given: bool
    extremes: tuple[Tensor, Tensor]


class Watch:
    """Watches every module of a model while the block runs; what the model computes is not touched.

    Of a module's output the first tensor is looked at: what else it passes on (caches, attention weights, position
    biases with a mask in them) is no activation. A first input is looked at where no module gave it: a residual sum, a
    gate's product; it counts as the value of the module around, which computed it. Nothing waits for the device before
    a forward has ended.

    Args:
        limit: the largest number to measure against, instead of that of each output's dtype. With 65504, a model that
            runs in fp32 says whether its activations would fit in fp16.
        counts: whether what runs now is looked at, where several take turns in one model.
    """

    def __init__(self, model: nn.Module, limit: float | None = None, counts: Callable[[], bool] = lambda: True) -> None:
        self._model, self._limit, self._counts = model, limit, counts
        self._names = {module: name or ROOT for name, module in model.named_modules()}
        self._handles: list[RemovableHandle] = []
        self._seen: list[_Seen] = []
        self._looked_at: dict[int, weakref.ref[Tensor]] = {}
        self._share, self._largest, self._largest_module, self._limit_there = 0.0, 0.0, "", limit or 0.0
        self._first: _Seen | None = None
        self._nonfinite: set[str] = set()

    def __enter__(self) -> Self:
        self._handles.append(self._model.register_forward_pre_hook(self._begin, with_kwargs=True))
        for module in self._names:
            if type(module) in _PASSING and module is not self._model and not module.training:
                continue
            self._handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.read()

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._counts():
            return
        self._looked_at.clear()
        self._look(INPUTS, True, _first_tensor((args, kwargs)))

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._counts():
            return
        name = self._names[module]
        given, found = _first_tensor((args, kwargs)), _first_tensor(output)
        # Most inputs are outputs that have been looked at; but ResNets add in place to such a one before a ReLU.
        if not self._known(given) or isinstance(module, nn.ReLU):
            self._look(name, True, given)
        # A module may add in place to what its part gave; but a model's logits, the largest tensor of all, are its
        # head's.
        if module is not self._model or not self._known(found):
            self._look(name, False, found)
        if module is self._model:
            self.read()

    def _known(self, tensor: Tensor | None) -> bool:
        known = self._looked_at.get(id(tensor))
        return known is not None and known() is tensor

    def _look(self, name: str, given: bool, tensor: Tensor | None) -> None:
        if tensor is not None:
            self._looked_at[id(tensor)] = weakref.ref(tensor)
            self._seen.append(_Seen(name, given, torch.aminmax(tensor.detach())))

    def read(self) -> None:
        """Take in what has been seen, in one transfer a dtype and device."""
        groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for index, seen in enumerate(self._seen):
            groups.setdefault((seen.extremes[0].dtype, seen.extremes[0].device), []).append(index)
        found: dict[int, tuple[float, float, torch.dtype]] = {}
        for (dtype, _), indices in groups.items():
            values = torch.stack([value for index in indices for value in self._seen[index].extremes]).tolist()
            found |= {
                index: (low, high, dtype) for index, low, high in zip(indices, values[::2], values[1::2], strict=True)
            }
        for index, seen in enumerate(self._seen):
            self._take(seen, *found[index])
        self._seen.clear()

    def _take(self, seen: _Seen, low: float, high: float, dtype: torch.dtype) -> None:
        most = torch.finfo(dtype).max
        limit = self._limit or most
        if not (math.isfinite(low) and math.isfinite(high)):
            self._first = self._first or seen
            self._limit_there = self._limit_there or limit
            if not seen.given:
                self._nonfinite.add(seen.module)
            return
        if seen.module == INPUTS:
            return
        # The least number of the dtype is a mask: nothing that is computed comes out as just that.
        largest = max(high, 0.0 if low == -most else -low)
        if largest / limit > self._share:
            self._share, self._limit_there = largest / limit, limit
            self._largest, self._largest_module = largest, self._owner(seen)

    @property
    def blamed(self) -> str | None:
        """The module that first gave a value that is not finite, as the model calls it."""
        first = None if self._first is None else self._owner(self._first)
        return None if first in (None, INPUTS) else _path(first)

    @property
    def result(self) -> Range | None:
        """What was seen over all forwards; None where that is nothing, or only zeros.

        ``largest`` leaves out outputs with values that are not finite; with such values there is no headroom: 0.
        ``first_nonfinite`` is the innermost module where they first appeared, in order of execution.
        """
        if self._first is None and not self._share:
            return None
        first = None if self._first is None else self._owner(self._first)
        kind = None if first in (None, INPUTS) else type(self._model.get_submodule(_path(first))).__name__
        return Range(
            limit=self._limit_there,
            largest=self._largest,
            largest_module=self._largest_module,
            headroom=0.0 if first else 1 / self._share,
            first_nonfinite=first,
            first_nonfinite_kind=kind,
            nonfinite_modules=len(self._nonfinite),
            before=self._first.module if self._first and self._first.given and first != INPUTS else None,
            bad_weights=0 if kind is None else _bad(self._model.get_submodule(_path(first))),
        )

    def _owner(self, seen: _Seen) -> str:
        """The module that computed it: of what went in, the next one outside that has a forward of its own."""
        if not seen.given or seen.module == INPUTS:
            return seen.module
        name = _path(seen.module)
        while name := name.rpartition(".")[0]:
            if type(self._model.get_submodule(name)) not in _PASSING:
                return name
        return ROOT


def _bad(module: nn.Module) -> int:
    """How many values of a module's own weights are not finite."""
    return sum(int((~parameter.isfinite()).sum()) for parameter in module.parameters(recurse=False))


def _path(name: str | None) -> str:
    return "" if name is None or name == ROOT else name


def _first_tensor(value: Any) -> Tensor | None:
    """The first floating-point tensor in nested tuples and mappings that is no mask."""
    return next(_tensors(value), None)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.dtype in _DTYPES and value.numel():
            yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if "mask" not in str(key):
                yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
