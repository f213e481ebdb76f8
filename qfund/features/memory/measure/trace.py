"""transformers' own forward on the meta device, with every storage that it makes counted while it lives.

So a trace says what transformers holds at once, to the byte, between operations. What a kernel takes for itself while
it runs (a fused attention, a matrix product) is not seen. ``benchmarks/fits.py`` holds the estimates against peaks of
processes; transformers' reference scans of states take more than the fused kernels of a GPU do.
"""

import inspect
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
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
        if func is torch.ops.aten._grouped_mm.default:  # that of meta takes bf16 only
            out = args[0].new_empty((args[0].shape[0], args[1].shape[-1]))
        else:
            out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._safe_softmax.default:  # it looks for rows without any score by a mask of them all
            self.peak = max(self.peak, self.now + out.nbytes + out.numel())
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


class Attention(TorchFunctionMode):
    """Scaled dot-product attention as a fused kernel has it: an output, and a mask turned into the dtype, no scores.

    Args:
        cpu: where torch's CPU has no fused kernel for what is asked, make its score matrices; a GPU has more kernels.

    Attributes:
        unfused: a CPU makes score matrices where a GPU does not: heads of keys and values that differ in width.
    """

    def __init__(self, cpu: bool = False) -> None:
        super().__init__()
        self._cpu, self.unfused = cpu, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | dict(given)
            query, mask = named["query"], named.get("attn_mask")
            if query.shape[:-2] != named["key"].shape[:-2] and not named.get("enable_gqa"):
                return func(*args, **given)  # fused kernels do not broadcast heads: torch computes scores, here too
            if not cpu_fuses(**named):
                self.unfused = True
                if self._cpu:
                    return func(*args, **given)
            biased = None if mask is None or mask.dtype == query.dtype else query.new_empty(mask.shape)
            out = query.new_empty((*query.shape[:-1], named["value"].shape[-1]))
            del biased
            return out
        return func(*args, **given)


class Shares(TorchFunctionMode):
    """Answers to questions about values, which meta has not, such that every expert is given as many rows.

    What experts of one product take together does not depend on how rows fall. Of those that run one after another
    the one with the most rows counts, so that a router that prefers some takes more than this.
    """

    def __init__(self) -> None:
        super().__init__()
        self._experts = 1

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given, call = kwargs or {}, func
        if not (args and isinstance(args[0], Tensor) and args[0].is_meta):
            return call(*args, **given)
        asked = args[0]
        if func is Tensor.tolist and asked.ndim == 1 and not asked.is_floating_point():
            return [0] * len(asked)  # how many rows each is given, to split them by that
        if func is Tensor.split and isinstance(args[1], list) and args[1] and not any(args[1]):
            rows, count = asked.shape[given.get("dim", 0)], len(args[1])
            return call(asked, [rows * (one + 1) // count - rows * one // count for one in range(count)], **given)
        if func in (Tensor.nonzero, torch.nonzero) and asked.ndim == 1:  # which of them are given any
            self._experts = len(asked)
            return torch.arange(len(asked), device="cpu")[:, None]
        if func is torch.where and len(args) == 1:  # which rows one of them is given
            return tuple(asked.new_empty(-(-asked.numel() // self._experts), dtype=torch.int64) for _ in asked.shape)
        if func is torch.unique_consecutive:
            return asked.new_empty(1)
        if func is Tensor.__getitem__ and isinstance(args[1], tuple) and isinstance(args[1][0], Tensor):
            mask, *rest = args[1]
            if mask.dtype is torch.bool and mask.ndim == 2:  # one token of each row: the last
                return call(asked[:, -1], (slice(None), *rest))
        return call(*args, **given)


def cpu_fuses(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    """Whether torch would use a fused kernel on a CPU for tensors like these: asked of torch itself."""

    def like(one: Tensor) -> Tensor:  # memory that nobody touches is not taken: this costs addresses only
        return torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device="cpu")

    with _disable_current_modes():
        mask = None if attn_mask is None else like(attn_mask)
        chosen = torch._fused_sdp_choice(
            like(query), like(key), like(value), mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return bool(chosen != SDPBackend.MATH.value)


@dataclass(frozen=True, slots=True)
class Trace:
    """Bytes: the most that lived at once, and what the cache held at the end; ``unfused`` as in ``Attention``."""

    peak: int
    cached: int
    unfused: bool = False


def trace(
    model: Any, batch: int, context: int, cached: bool = True, all_logits: bool = False, cpu: bool = False
) -> Trace:
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
    live, attention = LiveBytes(), Attention(cpu)
    with torch.no_grad(), Shares(), attention, live:
        out = model(**options)
    return Trace(live.peak, cache_bytes(out), attention.unfused)


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
