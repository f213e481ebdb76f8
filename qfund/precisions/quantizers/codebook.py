"""Four-bit codes for entries of a fixed table, scaled by the largest magnitude of each block, as bitsandbytes does."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qfund.precisions.levels import NF4_VALUES
from qfund.precisions.quantizers.packing import pack, packed_layout, unpack
from qfund.precisions.quantizers.quantizer import Layout, Shape


@dataclass(frozen=True, slots=True)
class Codebook:
    """The nearest of 16 fixed values in [−1, 1], times the absmax of a block of 64 weights.

    Blocks run over the flattened weight, so they may span rows, and the last may be shorter. Values are those of
    bitsandbytes' ``quantize_4bit`` with the absmax in float32 (no double quantisation); the packing is not: there the
    first code of a byte takes the high four bits, here the low ones. The table is a constant of the format and is not
    stored with the weight; bitsandbytes stores its 64 bytes with every one.

    Attributes:
        element: the name of the table.
        values: what each code stands for, in units of absmax.
    """

    element: str
    values: tuple[float, ...]
    block: int = 64

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] float → ``data`` [⌈out·in / 2⌉] uint8, two codes a byte, and ``scale`` [⌈out·in / 64⌉] float32."""
        flat = weight.float().flatten()
        blocks = F.pad(flat, (0, -len(flat) % self.block)).view(-1, self.block)
        absmax = blocks.abs().amax(1, keepdim=True)
        inverse = 1 / absmax
        # Times the inverse, as bitsandbytes does; a subnormal absmax has none, and an absmax of zero gives NaN → 0.
        units = torch.where(inverse.isinf(), blocks / absmax, blocks * inverse).nan_to_num(0.0)
        codes = self._nearest(units)[: len(flat)]
        return {"data": pack(codes[None], 4)[0], "scale": absmax[:, 0]}

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The float weight [out, in] that the codes stand for."""
        values = look_up(stored["data"][None], self.values)[:, : math.prod(shape)]
        multiply_blocks(values, stored["scale"][None], self.block)
        return values.view(shape).to(dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        """⌈NK / 2⌉ + 4⌈NK / 64⌉ bytes."""
        count = math.prod(shape)
        return {
            "data": Layout(torch.uint8, packed_layout(1, count, 4).shape[1:]),
            "scale": Layout(torch.float32, (-(-count // self.block),)),
        }

    def by_rows(self, columns: int) -> bool:
        return columns % self.block == 0

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """None: the largest magnitude of a block is ±1 in its own units, and both are in the table."""
        return 0

    def _nearest(self, units: Tensor) -> Tensor:
        """The codes, flat, of the nearest values; halfway, as far as float32 can tell, the lower value."""
        # By value; of two codes for zero, the first.
        order = sorted({value: code for code, value in reversed(list(enumerate(self.values)))}.items())
        levels = torch.tensor([value for value, _ in order], device="cpu")
        rank = torch.zeros(units.shape, dtype=torch.uint8, device=units.device)
        for halfway in ((levels[:-1] + levels[1:]) / 2).tolist():
            rank += units > halfway
        codes = torch.tensor([code for _, code in order], dtype=torch.uint8, device=units.device)
        return codes.index_select(0, rank.flatten().int())


def look_up(packed: Tensor, values: tuple[float, ...]) -> Tensor:
    """[rows, bytes] uint8 with two four-bit codes a byte → [rows, 2 · bytes] float32, a new tensor."""
    # A byte at a time: each picks the two floats of its codes as one 64-bit integer.
    pairs = _pairs(values, packed.device).index_select(0, packed.flatten().int())
    return pairs.view(torch.float32).view(packed.shape[0], -1)


@functools.cache
def _pairs(values: tuple[float, ...], device: torch.device) -> Tensor:
    every_byte = torch.arange(256, dtype=torch.uint8, device="cpu")
    pairs = torch.tensor(values, device="cpu")[unpack(every_byte[:, None], 4, 2).int()]
    return pairs.view(torch.int64).flatten().to(device)


def multiply_blocks(values: Tensor, scale: Tensor, block: int) -> None:
    """Multiply each ``block`` columns of [rows, columns] by its own of [rows, ⌈columns / block⌉], in place."""
    count, rest = divmod(values.shape[1], block)
    values[:, : count * block].unflatten(1, (count, block)).mul_(scale[:, :count, None])
    if rest:
        values[:, count * block :].mul_(scale[:, count:])


NF4 = Codebook("nf4", NF4_VALUES)
#: bitsandbytes' ``fp4`` (its ``functional.get_4bit_type``), by code: a sign bit and eight magnitudes in twelfths. Its
#: smallest is 1/192: this is not the e2m1 of MXFP4 and NVFP4.
FP4 = Codebook("fp4", tuple(sign * x / 12 for sign in (1, -1) for x in (0, 0.0625, 8, 12, 4, 6, 2, 3)))
