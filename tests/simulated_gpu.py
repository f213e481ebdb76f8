"""A GPU that is not there: tensors that say to be on ``cuda`` (or ``mps``, ``xpu``), compute with the processor's
numbers and refuse what the real ones refuse, so that all code for devices runs on a machine without one.

A tensor of the device holds one of the processor's and gives its values. An operation that mixes the two raises, but
for what torch lets pass: a number (a tensor without dimensions) of the processor's beside tensors of the device, its
indices into one, and copies. MPS has no float64. Not simulated: kernels' rounding, streams, autocast, memory.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from qfund.models import cache
from qfund.stream import streamed

_aten = torch.ops.aten
#: Whose indices may be the processor's.
_INDEXED = (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default)
#: Where tensors are made: the device of what a function of torch was given, or was asked for.
_target: list[torch.device | None] = [None]


class OnDevice(Tensor):
    """Of the simulated device; ``held`` has its numbers. To torch's own code it is the processor's."""

    held: Tensor
    place: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor, place: torch.device) -> "OnDevice":
        if place.type == "mps" and held.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                "Please use float32 instead."
            )
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype
        )
        made.held, made.place = held, place
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.place.type == "cuda"

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.place} device type tensor to numpy.")

    def tolist(self) -> Any:
        return self.held.tolist()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnDevice":
        made: Any = OnDevice(self.held.detach().clone(), self.place).requires_grad_(self.requires_grad)
        made._is_param = getattr(self, "_is_param", False)
        memo[id(self)] = made
        return made  # type: ignore[no-any-return]

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.held}, {self.place})"


def _run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    given = [part for part in tree_flatten((args, dict(kwargs)))[0] if isinstance(part, Tensor)]
    elsewhere = [part for part in given if isinstance(part, OnDevice)]
    made = not given or func is _aten.lift_fresh.default  # which is of what ``torch.tensor`` has read
    target = elsewhere[0].place if elsewhere else _target[-1] if made else None
    if func is _aten.copy_.default:
        target = args[0].place if isinstance(args[0], OnDevice) else None
    elif elsewhere:
        _must_be_together(func, args, given)
    if func is _aten._int_mm.default and target is not None and target.type == "cuda":
        (rows, inner), outputs = args[0].shape, args[1].shape[1]
        if rows <= 16 or inner % 8 or outputs % 8:
            raise RuntimeError(f"more than 16 rows and multiples of 8 are needed: {rows, inner, outputs}")
    same = {id(part.held): part for part in elsewhere}
    found = func(*tree_map(_held, args), **tree_map(_held, dict(kwargs)))

    def wrapped(part: Any) -> Any:
        if target is None or not isinstance(part, Tensor):
            return part
        return same[id(part)] if id(part) in same else OnDevice(part, target)

    # A view of what was made outside of inference mode is no inference tensor either.
    with torch.inference_mode(torch.is_inference_mode_enabled() and not (func.is_view and not args[0].is_inference())):
        return tree_map(wrapped, found)


def _held(part: Any) -> Any:
    return part.held if isinstance(part, OnDevice) else part


def _must_be_together(func: Any, args: tuple[Any, ...], given: list[Tensor]) -> None:
    if func in _INDEXED and isinstance(args[0], OnDevice):
        given = [part for part in (args[0], *args[2:3]) if isinstance(part, Tensor)]
    devices = {str(part.device) for part in given if part.dim() or isinstance(part, OnDevice)}
    if len(devices) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {sorted(devices)} ({func}).")


class _Made(TorchDispatchMode):
    """What makes tensors out of none."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Asked(TorchFunctionMode):
    """What code asks of torch: where, and to move something."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return _moved(*args, **kwargs)
        if func is Tensor.cpu:
            return _moved(args[0], "cpu")
        tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, OnDevice)]
        target = tensors[0].place if tensors else None
        if func is not torch.Generator and kwargs.get("device") is not None:
            asked = torch.device(kwargs["device"])
            target = asked if asked.type not in ("cpu", "meta") else None
            if target is not None:
                kwargs["device"] = "cpu"
        _target.append(target)
        try:
            return func(*args, **kwargs)
        finally:
            _target.pop()


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What ``Tensor.to`` gives."""
    place, dtype = tensor.device, kwargs.get("dtype") or tensor.dtype
    for part in (*args, kwargs.get("device"), kwargs.get("other")):
        if isinstance(part, Tensor):
            place, dtype = part.device, part.dtype
        elif isinstance(part, str | torch.device):
            place = torch.device(part)
        elif isinstance(part, torch.dtype):
            dtype = part
    if place == tensor.device:
        return tensor.to(dtype, copy=bool(kwargs.get("copy", False)))
    plain = tensor.held if isinstance(tensor, OnDevice) else tensor.detach()
    if place.type in ("cpu", "meta"):
        return plain.to(place, dtype, copy=True)
    return OnDevice(plain.to(dtype, copy=True), place)


class _LateQueues:
    """Of ``qfund.models.loading.uploading``: what is copied comes when somebody waits for it, and no earlier."""

    def __init__(self, place: torch.device) -> None:
        self._place, self._copies = place, list[tuple[Tensor, Tensor]]()

    def synchronize(self) -> None:
        """Of a buffer, which may be filled again: what it held has been read."""

    def buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def empty(self, tensor: Tensor) -> Tensor:
        lost = torch.full(tensor.shape, 77.0).to(tensor.dtype)
        return OnDevice(lost, self._place)

    def asked(self) -> "_LateQueues":
        return self

    def copy(self, source: Tensor, into: Tensor) -> "_LateQueues":
        self._copies.append((source.clone(), into))
        return self

    def copies_wait_for(self, event: object) -> None: ...

    def computing_waits_for(self, event: object) -> None:
        with torch.inference_mode():
            while self._copies:
                source, into = self._copies.pop(0)
                into.copy_(source)


@contextmanager
def simulated(kind: str = "cuda") -> Iterator[list[str]]:
    """While the block runs, ``QFUND_DEVICE`` is a device of that type; the list says what ``torch.cuda`` (or another)
    was asked that no tensor tells, in order."""
    asked: list[str] = []

    def told(name: str, answer: Any) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            asked.append(name)
            return answer

        return call

    answers: dict[str, Any] = {
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 12345,
        "get_device_name": "Simulated",
    }
    with pytest.MonkeyPatch.context() as patch, _Made(), _Asked():  # type: ignore[no-untyped-call]
        # A module's parameters are new ones there: torch would see no other device, and move numbers into the old ones.
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        patch.setattr(cache, "_cache", None)  # models of one device are no use on another
        patch.setenv("QFUND_DEVICE", f"{kind}:0")
        stream = SimpleNamespace(synchronize=told("synchronize", None))
        patch.setattr(getattr(torch, kind), "current_stream", lambda *_: stream, raising=False)
        patch.setattr(streamed, "DeviceQueues", _LateQueues)
        for name, answer in answers.items():
            patch.setattr(getattr(torch, kind), name, told(name, answer), raising=False)
        yield asked
