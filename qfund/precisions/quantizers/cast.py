"""Weights stored in a 16-bit float and widened again before each multiplication: a cast of the weights alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qfund.precisions.quantizers.quantizer import Layout, Shape


@dataclass(frozen=True, slots=True)
class Cast:
    """The nearest number of ``dtype``, half to even. No scale: what is beyond its range becomes infinite, as in a cast
    of the whole model, and is seen as such in the outputs."""

    dtype: torch.dtype

    @property
    def element(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] float → ``data`` [out, in]."""
        return {"data": weight.to(self.dtype)}

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The same numbers, exactly, in a wider float."""
        return stored["data"].to(dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        """2NK bytes."""
        return {"data": Layout(self.dtype, shape)}

    def by_rows(self, columns: int) -> bool:
        return True

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """None: nothing is clipped."""
        return 0


BF16 = Cast(torch.bfloat16)
FP16 = Cast(torch.float16)
