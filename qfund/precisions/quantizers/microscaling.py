"""Small blocks along a row that share a narrow scale: the OCP Microscaling formats (MX, v1.0) and NVIDIA's NVFP4."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from qfund.precisions.quantizers.codebook import look_up, multiply_blocks
from qfund.precisions.quantizers.packing import pack, packed_layout
from qfund.precisions.quantizers.quantizer import Layout, Shape


class Element(Protocol):
    """A narrow float that a block is made of: its largest number and how it is stored."""

    name: str
    largest: float
    exponent: int  # of the largest number
    beyond: float  # from here on a number is off by more than half a step

    def encode(self, units: Tensor) -> Tensor:
        """[out, in] float32 → the nearest codes, half to even, saturating."""
        ...

    def decode(self, data: Tensor, columns: int) -> Tensor:
        """The inverse: a new [out, columns] float32."""
        ...

    def layout(self, shape: Shape) -> Layout: ...


class E4M3:
    """Eight bits, a code a byte."""

    name, largest, exponent, beyond = "float8_e4m3fn", 448.0, 8, 464.0

    def encode(self, units: Tensor) -> Tensor:
        return units.clamp(-self.largest, self.largest).to(torch.float8_e4m3fn)

    def decode(self, data: Tensor, columns: int) -> Tensor:
        return data.to(torch.float32)

    def layout(self, shape: Shape) -> Layout:
        return Layout(torch.float8_e4m3fn, shape)


class E2M1:
    """Four bits, two codes a byte, the first in the low half: a sign and 0, 0.5, 1, 1.5, 2, 3, 4 or 6."""

    name, largest, exponent, beyond = "float4_e2m1", 6.0, 2, 7.0
    values = tuple(sign * x for sign in (1, -1) for x in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))

    def encode(self, units: Tensor) -> Tensor:
        # A magnitude's code is how many of the halfway points it has passed. Exactly on one it goes to the even code:
        # over the second, fourth and sixth, not over the others.
        magnitude = units.abs()
        codes = 8 * units.signbit().to(torch.uint8)
        for low, high in ((0.25, 0.75), (1.25, 1.75), (2.5, 3.5)):
            codes += magnitude > low
            codes += magnitude >= high
        codes += magnitude > 5.0
        return pack(codes, 4)

    def decode(self, data: Tensor, columns: int) -> Tensor:
        return look_up(data, self.values)[:, :columns]

    def layout(self, shape: Shape) -> Layout:
        return packed_layout(*shape, 4)


@dataclass(frozen=True, slots=True)
class MX:
    """Blocks of 32 along a row share a power of two, 2^(⌊log2 absmax⌋ − e), e the exponent of the largest element.

    That is section 6.3 of the specification and torchao's FLOOR. The absmax may lie above the largest element (up to
    512 / 448, up to 8 / 6) and is then clipped. The last block of a row may be shorter.
    """

    of: Element
    block: int = 32

    @property
    def element(self) -> str:
        return self.of.name

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] float → ``data`` (codes of a row, packed) and ``scale`` [out, ⌈in / 32⌉] e8m0, powers of two."""
        absmax = _absmax(weight, self.block)
        # The exponent of a float32 is in its bits 23 to 30, biased by 127 as e8m0 is. Below 2⁻¹²⁷ there is no scale.
        biased = (absmax.view(torch.int32) >> 23) - self.of.exponent
        scale = biased.clamp(min=0).to(torch.uint8).view(torch.float8_e8m0fnu)
        return {"data": self.of.encode(self._units(weight, scale)), "scale": scale}

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The float weight [out, in] that the codes stand for."""
        values = self.of.decode(stored["data"], shape[1])
        multiply_blocks(values, stored["scale"].to(torch.float32), self.block)
        return values.to(dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        """NK + N⌈K / 32⌉ bytes for float8 elements, N⌈K / 2⌉ + N⌈K / 32⌉ for float4."""
        rows, columns = shape
        return {
            "data": self.of.layout(shape),
            "scale": Layout(torch.float8_e8m0fnu, (rows, -(-columns // self.block))),
        }

    def by_rows(self, columns: int) -> bool:
        return True

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """How many weights lie above 7 scales (float4), above 464 (float8)."""
        return int((self._units(weight, stored["scale"]).abs() > self.of.beyond).sum())

    def _units(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The weight in units of its scales: exact, as they are powers of two."""
        return weight.float() / _widened(scale.to(torch.float32), self.block, weight.shape[1])


@dataclass(frozen=True, slots=True)
class NVFloat4:
    """e2m1 in blocks of 16 along a row, an e4m3 scale for each and one float32 scale for the whole weight.

    A block's absmax becomes 6, the largest element, and the largest block's scale 448, the largest e4m3; a block's
    scale is at least 2⁻⁶. So does torchao, where an all-zero weight is NaN: here its scale stays clear of zero.
    """

    block: int = 16

    @property
    def element(self) -> str:
        return _E2M1.name

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] float → ``data`` (a row's codes), ``scale`` [out, ⌈in / 16⌉] e4m3, ``scale_tensor`` [1] float32."""
        e4m3 = torch.finfo(torch.float8_e4m3fn)
        absmax = _absmax(weight, self.block)
        # By tensors: CUDA multiplies by the rounded inverse of a Python number, which gives other scales.
        largest = torch.full_like(absmax, _E2M1.largest)
        whole = absmax.amax().view(1)
        whole = whole / torch.full_like(whole, e4m3.max * _E2M1.largest)
        # Times the smallest block scale and element, 2⁻⁷, all three fractional bits of a block scale must remain above
        # the smallest subnormal, 2⁻¹⁴⁹; and a smaller one, rounded to few bits, could clip the largest weights.
        whole = whole.clamp(min=2**-139)
        scale = (absmax / largest / whole).clamp(e4m3.tiny, e4m3.max).to(torch.float8_e4m3fn)
        return {"data": _E2M1.encode(self._units(weight, scale, whole)), "scale": scale, "scale_tensor": whole}

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The float weight [out, in] that the codes stand for."""
        values = _E2M1.decode(stored["data"], shape[1])
        multiply_blocks(values, stored["scale"].to(torch.float32) * stored["scale_tensor"], self.block)
        return values.to(dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        """N⌈K / 2⌉ + N⌈K / 16⌉ + 4 bytes."""
        rows, columns = shape
        return {
            "data": _E2M1.layout(shape),
            "scale": Layout(torch.float8_e4m3fn, (rows, -(-columns // self.block))),
            "scale_tensor": Layout(torch.float32, (1,)),
        }

    def by_rows(self, columns: int) -> bool:
        return False  # one scale knows the whole weight

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """None, unless the scales are not this weight's: rounding one to e4m3 makes it too small by 1/17 at most."""
        units = self._units(weight, stored["scale"], stored["scale_tensor"])
        return int((units.abs() > _E2M1.beyond).sum())

    def _units(self, weight: Tensor, scale: Tensor, whole: Tensor) -> Tensor:
        """The weight in units of its scales, in the order of operations of torchao and of its GPU kernel."""
        # Tiny scales have no inverse in float32: both sides are lifted by a power of two, which changes no rounding.
        lift = torch.where(whole < 2**-100, 2.0**64, 1.0)
        inverse = (1 / (whole * lift)) / scale.to(torch.float32)
        return weight.float() * lift * _widened(inverse, self.block, weight.shape[1])


def _absmax(weight: Tensor, block: int) -> Tensor:
    """[out, in] → [out, ⌈in / block⌉] float32, the largest magnitude of each block of a row."""
    padded = F.pad(weight.float().abs(), (0, -weight.shape[1] % block))
    return padded.reshape(weight.shape[0], -1, block).amax(2)


def _widened(scale: Tensor, block: int, columns: int) -> Tensor:
    """[out, blocks] → [out, columns]: each scale beside every weight of its block."""
    return scale.repeat_interleave(block, 1)[:, :columns]


_E2M1 = E2M1()
MXFP8 = MX(E4M3())
MXFP4 = MX(_E2M1)
NVFP4 = NVFloat4()
