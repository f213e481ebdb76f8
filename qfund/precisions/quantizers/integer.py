"""Integers of 2 to 8 bits: q = clamp(round(w / s) + z), one scale per output channel or per group of a row.

Bit for bit what torchao 0.18 computes on a CPU, wherever torchao takes the shape.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qfund.precisions.quantizers.packing import pack, packed_layout, unpack
from qfund.precisions.quantizers.quantizer import Layout, Shape


@dataclass(frozen=True, slots=True)
class Integer:
    """``bits``-wide signed integers, q_min = −2**(bits − 1) … q_max = 2**(bits − 1) − 1.

    - Symmetric: s = absmax / ((q_max − q_min) / 2): /127.5 for 8 bits, /7.5 for 4, torchao's convention (others divide
      by 127 and by 7), so that both ends of the range are used. The largest positive weight is clamped to q_max and is
      off by half a step.
    - Asymmetric: s = (max − min) / (q_max − q_min), zero among both, and z = q_min − round(min / s): zero stays exact.

    Rounding is half to even. Everything is computed in the weight's dtype, as torchao does it: of a bf16 weight the
    scale is rounded to bf16, and groups also multiply and round in bf16. A group of zeros has the smallest scale and
    stays zero. Where the columns are no multiple of the group, the last group of each row is shorter.

    Stored are ``data``, [out, in] int8 for 8 bits and packed bytes below that; ``scale`` [out, groups]; and only where
    asymmetric ``zero_point`` [out, groups] int8. Torchao also stores the zeros of symmetric formats, and a byte for
    each code of any width: ours is smaller by that.

    Attributes:
        group: how many neighbours in a row share a scale; None for the whole row.
        fp32_scale: scales are stored in float32 and are at least 2**−23 (torchao's ``Int8WeightOnlyConfig``). Else
            they have the weight's dtype and are at least its smallest normal number (``IntxWeightOnlyConfig``).
    """

    bits: int
    group: int | None = None
    symmetric: bool = True
    fp32_scale: bool = False

    @property
    def element(self) -> str:
        return f"int{self.bits}"

    @property
    def q_max(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def q_min(self) -> int:
        return -(1 << (self.bits - 1))

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] → ``data``, ``scale`` and, if asymmetric, ``zero_point``."""
        groups = self._grouped(weight)
        low, high = _extremes(groups)
        low, high = low.clamp(max=0), high.clamp(min=0)
        if self.symmetric:
            reach, steps = torch.maximum(-low, high), (self.q_max - self.q_min) / 2
        else:
            reach, steps = high - low, self.q_max - self.q_min
        least = torch.finfo(torch.float32).eps if self.fp32_scale else torch.finfo(weight.dtype).smallest_normal
        # By a tensor: divided by a number, CUDA would multiply with its reciprocal, and differ from the CPU in a bit.
        scale = (reach / reach.new_full((), steps)).clamp(min=least)
        zero_point = None if self.symmetric else (self.q_min - (low / scale).round()).clamp(self.q_min, self.q_max)
        if self.fp32_scale:
            scale = scale.float()
        codes = (groups * (1 / scale)).round_()
        if zero_point is not None:
            codes += zero_point
        data = codes.clamp_(self.q_min, self.q_max).to(torch.int8).flatten(1)[:, : weight.shape[1]].contiguous()
        if self.bits < 8:
            data = pack((data - self.q_min).view(torch.uint8), self.bits)
        stored = {"data": data, "scale": scale.squeeze(2)}
        return stored if zero_point is None else stored | {"zero_point": zero_point.squeeze(2).to(torch.int8)}

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """(q − z) · s, [out, in]; multiplied in the wider of ``dtype`` and the scale's, then rounded to ``dtype``."""
        codes, scale = stored["data"], stored["scale"].unsqueeze(2)
        if self.bits < 8:
            codes = unpack(codes, self.bits, shape[1]).view(torch.int8) + self.q_min
        values = self._grouped(codes).to(torch.promote_types(dtype, scale.dtype))
        if not self.symmetric:
            values -= stored["zero_point"].unsqueeze(2)
        values *= scale
        return values.flatten(1)[:, : shape[1]].to(dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        rows, columns = shape
        data = packed_layout(rows, columns, self.bits) if self.bits < 8 else Layout(torch.int8, shape)
        groups = (rows, math.ceil(columns / (self.group or columns)))
        layout = {"data": data, "scale": Layout(torch.float32 if self.fp32_scale else dtype, groups)}
        return layout if self.symmetric else layout | {"zero_point": Layout(torch.int8, groups)}

    def by_rows(self, columns: int) -> bool:
        return True

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """Weights more than 5/8 of a step beyond the last code.

        Half a step is what rounding costs any weight. The eighth is for scales that are rounded to bf16, and so may be
        too small by one part in 256: 6 bits have 32 steps to each side. (8 bits have more, but a number of bf16's
        precision divided by 127.5 is always rounded up.) So nothing is clipped by a scale that ``quantize`` chose, and
        a number above 0 says that one is not the weight's.
        """
        groups, scale = self._grouped(weight), stored["scale"].unsqueeze(2).float()
        zero_point = 0 if self.symmetric else stored["zero_point"].unsqueeze(2)
        bottom, top = ((end - zero_point) * scale for end in (self.q_min - 5 / 8, self.q_max + 5 / 8))
        low, high = _extremes(groups)
        # Only the few groups with an extreme beyond are looked at weight by weight.
        beyond = ((low < bottom) | (high > top)).squeeze(2)
        return int(((groups[beyond] < bottom[beyond]) | (groups[beyond] > top[beyond])).sum())

    def _grouped(self, matrix: Tensor) -> Tensor:
        """[rows, columns] → [rows, groups, columns of a group], zeros in place of what the last group lacks."""
        size = self.group or matrix.shape[1]
        if missing := -matrix.shape[1] % size:
            matrix = F.pad(matrix, (0, missing))
        return matrix.view(matrix.shape[0], matrix.shape[1] // size, size)


def _extremes(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest of each group, [rows, groups, 1]: in two passes, which take a fifth of ``aminmax``'s one."""
    return groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)


INT8_PER_CHANNEL = Integer(bits=8, fp32_scale=True)
INT8_G32 = Integer(bits=8, group=32, fp32_scale=True)
INT6_G32 = Integer(bits=6, group=32)
INT5_G32 = Integer(bits=5, group=32)
INT4_G32 = Integer(bits=4, group=32)
INT4_G32_ASYM = Integer(bits=4, group=32, symmetric=False)
INT4_G64 = Integer(bits=4, group=64)
INT4_G128 = Integer(bits=4, group=128)
INT3_G32 = Integer(bits=3, group=32)
INT2_G32 = Integer(bits=2, group=32)
