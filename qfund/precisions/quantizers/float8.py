"""Eight-bit floats with one scale per output row, weights only: w ≈ s · cast(clamp(w / s)), s = absmax / largest."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qfund.precisions.quantizers.quantizer import Layout, Shape


@dataclass(frozen=True, slots=True)
class Float8PerRow:
    """A float8 ``dtype`` with one float32 scale per row of a weight [out, in], as torchao's Float8WeightOnlyConfig.

    The largest magnitude of a row becomes the format's largest number (448, 57344). torchao divides in the weight's
    dtype, so a bf16 weight has a scale of bf16's eight bits, and so here. Unlike there, the scale stays clear of zero
    and of overflow: an all-zero row stays zero where theirs is 0 / 0. Rounding is half to even.
    """

    dtype: torch.dtype

    @property
    def element(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] float → ``data`` [out, in] float8 and ``scale`` [out, 1] float32."""
        exact = weight.float()
        absmax = exact.abs().amax(1, keepdim=True)
        largest = torch.finfo(self.dtype).max
        # By a tensor: CUDA multiplies by the rounded inverse of a Python number, which is another scale.
        scale = absmax / torch.full_like(absmax, largest)
        if weight.dtype == torch.bfloat16:
            scale = scale.bfloat16().float()
        of = torch.finfo(torch.bfloat16 if weight.dtype == torch.bfloat16 else torch.float32)
        # 16 of the smallest subnormals: every weight is a multiple of a sixteenth of it, which float8 holds exactly,
        # and a scale rounded to fewer units than that could be too small by a step. At the other end, largest · scale
        # must not round to infinity.
        scale = scale.clamp(min=16 * of.tiny * of.eps, max=of.max / largest * (1 - of.eps))
        # Clamped first: a cast to e5m2 overflows to infinity.
        return {"data": (exact / scale).clamp(-largest, largest).to(self.dtype), "scale": scale}

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The float weight [out, in] that the codes stand for."""
        return stored["data"].to(torch.float32).mul_(stored["scale"]).to(dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        """NK + 4N bytes."""
        return {"data": Layout(self.dtype, shape), "scale": Layout(torch.float32, (shape[0], 1))}

    def by_rows(self, columns: int) -> bool:
        return True

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """None, unless the scales are not this weight's: they are made from its largest magnitudes."""
        limits = torch.finfo(self.dtype)
        # Both formats end at 1.75 · 2^e, where a step is eps · 2^e.
        beyond = limits.max + limits.max / 1.75 * limits.eps / 2
        return int(((weight.float() / stored["scale"]).abs() > beyond).sum())


FP8_E4M3 = Float8PerRow(torch.float8_e4m3fn)
FP8_E5M2 = Float8PerRow(torch.float8_e5m2)
