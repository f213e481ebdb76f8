"""Symmetric integer quantisation: q = clamp(round(w / s)), one scale per output channel."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qfund.quantizers.walk import Layout


@dataclass(frozen=True, slots=True)
class SymmetricPerChannel:
    """``bits``-wide signed integers with one scale per row of a weight [out, in].

    The scale is absmax / ((q_max − q_min) / 2): /127.5 for 8 bits, torchao's convention (others divide by 127), so
    that both ends of the range are used; the largest positive weight is clamped to 127 and is off by half a step. An
    all-zero row has the smallest scale and stays zero. Rounding is half to even, in float32.
    """

    bits: int

    @property
    def q_max(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def q_min(self) -> int:
        return -(1 << (self.bits - 1))

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] float → ``data`` [out, in] int8 and ``scale`` [out, 1] float32."""
        exact = weight.float()
        scale = exact.abs().amax(1, keepdim=True) / ((self.q_max - self.q_min) / 2)
        scale = scale.clamp(min=torch.finfo(torch.float32).eps)
        data = torch.round(exact * (1 / scale)).clamp(self.q_min, self.q_max).to(torch.int8)
        return {"data": data, "scale": scale}

    def dequantize(self, stored: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The float weight [out, in] that the integers stand for."""
        return (stored["data"].float() * stored["scale"]).to(dtype)

    def layout(self, out_features: int, in_features: int) -> dict[str, Layout]:
        """dtype and shape of what ``quantize`` stores, from the shape alone."""
        return {
            "data": Layout(torch.int8, (out_features, in_features)),
            "scale": Layout(torch.float32, (out_features, 1)),
        }


INT8_PER_CHANNEL = SymmetricPerChannel(bits=8)
