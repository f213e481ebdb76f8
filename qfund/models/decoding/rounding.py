"""How keys or values are rounded: what of a layer is written, decoded again, and the bytes that were stored for it.

What a layer writes of some tokens is taken as a matrix [tokens, channels], the heads of a token side by side, as
llama.cpp lays them out; so a group of 64 may reach over two heads of 32.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qfund.precisions.caches import GROUP, KV_FORMATS, PER_CHANNEL
from qfund.precisions.quantizers.ggml.blocks import Blocks

_CASTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(torch.float16).max


@dataclass(slots=True)
class Rounder:
    """Rounds a layer's keys (or values) as they come: [tokens, channels] → the same decoded, in the same dtype.

    Attributes:
        name: of ``KV_FORMATS``.
        by_channel: groups lie along the tokens of a channel, which must be whole groups then.
        stored: bytes that were stored so far.
        scale: of ``fp8``, from the first tokens written, as transformers' ``Fp8QuantizedLayer`` has it.
    """

    name: str
    by_channel: bool = False
    stored: int = 0
    scale: Tensor | None = field(default=None, repr=False)

    def __call__(self, values: Tensor) -> Tensor:
        if not values.numel():
            return values
        found, stored = self._codec()(values)
        self.stored += stored
        return found.to(values.dtype)

    def _codec(self) -> Callable[[Tensor], tuple[Tensor, int]]:
        if self.name in _CASTS:
            return self._cast
        if self.name in ("q8_0", "q4_0"):
            return self._blocks
        return self._fp8 if self.name == "fp8" else self._integers

    def _cast(self, values: Tensor) -> tuple[Tensor, int]:
        found = values.to(_CASTS[self.name])
        return found, found.nbytes

    def _fp8(self, values: Tensor) -> tuple[Tensor, int]:
        """One fp32 scale for all that a layer ever writes: largest magnitude of the first tokens / 448."""
        extra = 0
        if self.scale is None:
            largest = values.abs().amax().float() / torch.finfo(_FP8).max
            self.scale, extra = largest.clamp(min=torch.finfo(torch.float32).tiny), 4
        codes = (values.float() / self.scale).to(_FP8)
        return codes.float() * self.scale, codes.nbytes + extra

    def _blocks(self, values: Tensor) -> tuple[Tensor, int]:
        """llama.cpp's blocks along a token's channels, by the ``gguf`` package."""
        kind = Blocks(self.name.upper())
        stored = kind.quantize(values)
        found = kind.dequantize(stored, (values.shape[0], values.shape[1]), torch.float32)
        return found.to(values.device), sum(part.nbytes for part in stored.values())

    def _integers(self, values: Tensor) -> tuple[Tensor, int]:
        """Asymmetric in groups: code = round((x − min) / scale), scale = (max − min) / (2ᵇ − 1), both kept in fp16."""
        format = KV_FORMATS[self.name]
        assert format.group is not None
        laid = values.float().T.contiguous() if self.by_channel else values.float()
        groups = laid.reshape(-1, format.group)
        low = groups.amin(1, keepdim=True).clamp(-_LARGEST, _LARGEST).half()
        span = groups.amax(1, keepdim=True) - low.float()
        scale = (span / (2**format.bits - 1)).clamp(max=_LARGEST).half()
        step = torch.where(scale > 0, scale.float(), 1.0)
        codes = ((groups - low.float()) / step).round_().clamp_(0, 2**format.bits - 1).to(torch.uint8)
        found = (codes.float() * scale.float() + low.float()).reshape(laid.shape)
        stored = codes.numel() * format.bits // 8 + low.nbytes + scale.nbytes
        return (found.T if self.by_channel else found), stored


def rounders(keys: str, values: str) -> tuple[Rounder, Rounder]:
    """Fresh ones for a layer. KIVI groups keys by channel, in which they have their outliers, and values by token
    (Z. Liu et al., "KIVI: a tuning-free asymmetric 2bit quantization for KV cache", 2024)."""
    return Rounder(keys, keys == PER_CHANNEL), Rounder(values)


def unfit(rounder: Rounder, channels: int, window: int, first: int) -> str | None:
    """Why such tokens cannot be rounded so, as a sentence; None where they can."""
    group = KV_FORMATS[rounder.name].group
    if group is None:
        return None
    if rounder.by_channel:
        if window % GROUP or first % GROUP:
            return f"{rounder.name} groups keys by {GROUP} tokens, so first and window must be multiples of {GROUP}."
        return None
    if channels % group:
        return f"{rounder.name} needs groups of {group}, and a token has {channels} channels here."
    return None
