"""Codes of fewer than eight bits, packed into bytes: what a low-precision weight really takes in memory.

A width is stored as planes of 8, 4, 2 and 1 bits, those whose sum it is (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2), the widest
plane first and with the lowest bits of each code. Inside a plane the first code of a row takes the lowest bits of the
first byte; each row of each plane is padded with zeros to whole bytes, and no further. So the two-bit codes
[1, 0, 3, 2] are the byte 0b10_11_00_01 = 177.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from qfund.precisions.quantizers.quantizer import Layout

#: Plane width → an integer as wide as the bytes that one packed byte unfolds into, and the steps of that: each halves
#: the fields, moving the upper halves up by ``shift``; ``mask`` keeps what belongs there. Bytes lie lowest first in
#: the integer, as on every machine that torch runs on. No field reaches a sign bit.
_STEPS: dict[int, tuple[torch.dtype, tuple[tuple[int, int], ...]]] = {
    8: (torch.uint8, ()),
    4: (torch.int16, ((4, 0x0F0F),)),
    2: (torch.int32, ((12, 0x000F000F), (6, 0x03030303))),
    1: (torch.int64, ((28, 0x0000000F_0000000F), (14, 0x00030003_00030003), (7, 0x01010101_01010101))),
}


def pack(codes: Tensor, bits: int) -> Tensor:
    """[rows, K] uint8, each below 2**bits → [rows, bytes] uint8, the planes of a row one after the other."""
    planes, low = [], 0
    for width in _planes(bits):
        part = (codes >> low) & ((1 << width) - 1)
        planes.append(_fold(F.pad(part, (0, -codes.shape[1] % (8 // width))), width))
        low += width
    return torch.cat(planes, 1)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """[rows, bytes] uint8 as ``pack`` made it from [rows, columns] → those codes, uint8."""
    codes, low, start = None, 0, 0
    for width in _planes(bits):
        stop = start + _bytes(columns, width)
        part = _unfold(packed[:, start:stop], width)[:, :columns]
        codes = part if codes is None else codes.bitwise_or_(part << low)
        low, start = low + width, stop
    assert codes is not None
    return codes


def packed_layout(rows: int, columns: int, bits: int) -> Layout:
    """dtype and shape of ``pack``'s result."""
    return Layout(torch.uint8, (rows, sum(_bytes(columns, width) for width in _planes(bits))))


def _planes(bits: int) -> list[int]:
    assert 1 <= bits <= 8, f"a code has 1 to 8 bits, not {bits}"
    return [width for width in _STEPS if bits & width]


def _bytes(columns: int, width: int) -> int:
    return -(-columns * width // 8)


def _fold(codes: Tensor, width: int) -> Tensor:
    """[rows, multiple of 8 / width] → [rows, bytes]."""
    wide, steps = _STEPS[width]
    # Flat first: a tensor with one column may have any stride, which a view with another element size refuses.
    folded = codes.flatten().view(wide)
    before = (0xFF, *(mask for _, mask in steps))
    for (shift, _), mask in zip(steps[::-1], before[-2::-1], strict=True):
        folded = (folded | (folded >> shift)) & mask
    return folded.to(torch.uint8).view(codes.shape[0], codes.shape[1] * width // 8)


def _unfold(packed: Tensor, width: int) -> Tensor:
    """The inverse of ``_fold``."""
    wide, steps = _STEPS[width]
    codes = packed.flatten().to(wide)
    for shift, mask in steps:
        codes = (codes | (codes << shift)).bitwise_and_(mask)
    return codes.view(torch.uint8).view(packed.shape[0], packed.shape[1] * 8 // width)
