"""The bytes that a model really stores, also in tensors that hide them: torchao's subclasses, bitsandbytes' parameters.

``weight.dtype`` and ``weight.element_size()`` of a torchao weight are those of the float it replaced, and transformers'
``get_memory_footprint()`` believes them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One stored tensor: a whole parameter or buffer, or one of those that a quantised parameter consists of.

    Attributes:
        name: of the parameter or buffer in the model.
        part: of the tensor in it, ``"qdata"`` or ``"quant_state.absmax"``; empty for a plain one.
        claims: dtype that the parameter says it has.
        dtype: that is stored.
        bytes: counted here; 0 if ``shared_with`` names the tensor where this memory is counted already.
        kind: ``"weight"`` (codes and plain parameters), ``"scale"`` (all else in a quantised one) or ``"buffer"``.
    """

    name: str
    part: str
    claims: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    kind: str
    shared_with: str | None = None


def stored_parts(model: nn.Module) -> tuple[StoredPart, ...]:
    """Every stored tensor of a model, memory that two share counted once."""
    rows: list[StoredPart] = []
    places: dict[tuple[int, int], str] = {}
    room: dict[int, int] = {}  # bytes of a storage that are not counted yet
    for name, claims, part, tensor, kind in tensors(model):
        full = f"{name}.{part}".rstrip(".")
        own = tensor.numel() * tensor.element_size()
        storage = tensor.untyped_storage()
        shared = places.setdefault((tensor.data_ptr(), own), full) if own else full
        # Never more than the memory there is: an expanded tensor has more elements than it stores.
        counted = min(own, room.setdefault(storage.data_ptr(), storage.nbytes())) if shared == full else 0
        room[storage.data_ptr()] -= counted
        rows.append(
            StoredPart(
                name=name,
                part=part,
                claims=claims,
                dtype=_name(tensor),
                shape=tuple(tensor.shape),
                bytes=counted,
                kind=kind,
                shared_with=None if shared == full else shared,
            )
        )
    return tuple(rows)


def stored_bytes(model: nn.Module) -> int:
    """All that a model stores."""
    return sum(row.bytes for row in stored_parts(model))


def tensors(model: nn.Module) -> Iterator[tuple[str, str, str, Tensor, str]]:
    """Name, claimed dtype, part, tensor and kind."""
    for prefix, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{key}".lstrip(".")
            for part, tensor in _parts(parameter, module):
                kind = "weight" if part in ("", "qdata") else "scale"
                yield name, _name(parameter), part, tensor, kind
        for key, buffer in module.named_buffers(recurse=False):
            name = f"{prefix}.{key}".lstrip(".")
            yield from ((name, _name(buffer), part, tensor, "buffer") for part, tensor in _parts(buffer, module))


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _parts(tensor: Any, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    if hasattr(tensor, "__tensor_flatten__"):
        for key in tensor.__tensor_flatten__()[0]:
            yield from ((f"{key}.{part}".rstrip("."), inner) for part, inner in _parts(getattr(tensor, key), module))
        return
    yield "", tensor.data if isinstance(tensor, nn.Parameter) else tensor
    # bitsandbytes: what belongs to a weight hangs on the parameter as plain attributes.
    if (state := getattr(tensor, "quant_state", None)) is not None:
        yield from _held("quant_state", state, ("absmax", "code", "offset"))
        if getattr(state, "state2", None) is not None:
            yield from _held("quant_state.state2", state.state2, ("absmax", "code"))
    if hasattr(tensor, "SCB"):
        # The first forward moves the scales from the parameter to its module.
        yield from _held("", tensor, ("SCB",))
        yield from _held("", getattr(module, "state", None), ("SCB",))


def _held(prefix: str, owner: Any, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    for name in names:
        if isinstance(found := getattr(owner, name, None), Tensor):
            yield f"{prefix}.{name}".lstrip("."), found
