"""transformers' own forward on the meta device, with every storage that it makes counted while it lives.

So a trace says what transformers holds at once, to the byte, between operations. What a kernel takes for itself while
it runs (a fused attention, a matrix product) is not seen. Beside forwards that really run on the CPU the estimates are
7 % too small to 3 % too large (``benchmarks/fits.py``: ten architectures, two dtypes); transformers' reference scans of
states take more than the fused kernels of a GPU do.
"""

import inspect
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages made inside of it, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype is torch.bool or 1  # a mask of ones is asked whether all of it is one
        out = func(*args, **(kwargs or {}))
        given = {one.untyped_storage()._cdata for one in tree_iter((args, kwargs)) if isinstance(one, Tensor)}
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), given)
        return out

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in given or key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class FusedAttention(TorchFunctionMode):
    """Scaled dot-product attention as a fused kernel has it: an output, and a mask turned into the dtype, no scores."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | dict(given)
            query, mask = named["query"], named.get("attn_mask")
            if query.shape[:-2] != named["key"].shape[:-2] and not named.get("enable_gqa"):
                return func(*args, **given)  # fused kernels do not broadcast heads: torch computes scores, here too
            biased = None if mask is None or mask.dtype == query.dtype else query.new_empty(mask.shape)
            out = query.new_empty((*query.shape[:-1], named["value"].shape[-1]))
            del biased
            return out
        return func(*args, **given)


@dataclass(frozen=True, slots=True)
class Trace:
    """Bytes: the most that lived at once, and what the cache held at the end."""

    peak: int
    cached: int


def trace(model: Any, batch: int, context: int, cached: bool = True, all_logits: bool = False) -> Trace:
    """Read a prompt on the meta device, as ``generate`` does: with a cache, and logits of the last position only."""
    ids = torch.zeros((batch, context), dtype=torch.int64, device="meta")
    accepted = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"input_ids": ids}
    if "decoder_input_ids" in accepted:
        options["decoder_input_ids"] = ids
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = 0 if all_logits else 1
    if "use_cache" in accepted:
        options["use_cache"] = cached
    live = LiveBytes()
    with torch.no_grad(), FusedAttention(), live:
        out = model(**options)
    return Trace(live.peak, cache_bytes(out))


def cache_bytes(output: Any) -> int:
    """Bytes that the tensors of an output's cache stand for, each once."""
    found = getattr(output, "past_key_values", None)
    if found is None:
        found = getattr(output, "cache_params", None)
    seen: dict[int, int] = {}
    _collect(found, seen)
    return sum(seen.values())


def _collect(found: Any, seen: dict[int, int]) -> None:
    if isinstance(found, Tensor):
        seen[id(found)] = found.numel() * found.element_size() if found.is_floating_point() else 0
    elif isinstance(found, Mapping):
        for one in found.values():
            _collect(one, seen)
    elif isinstance(found, list | tuple):
        for one in found:
            _collect(one, seen)
    elif type(found).__module__.startswith("transformers."):
        _collect(vars(found), seen)
