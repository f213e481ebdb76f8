"""Codes into words as formats describe it, one code at a time in Python's own integers: nothing of it is qfund's."""

import numpy as np
import torch
from torch import Tensor


def stream(codes: Tensor, bits: int) -> Tensor:
    """[rows, count] → int32 [rows, words]: the codes of a row as one number, the first in its lowest bits."""
    size = -(-codes.shape[1] * bits // 32)
    rows = []
    for row in codes.tolist():
        whole = sum(int(code) << bits * place for place, code in enumerate(row))
        rows.append(np.frombuffer(whole.to_bytes(4 * size, "little"), "<i4"))
    return torch.from_numpy(np.stack(rows))


def fields(codes: Tensor, bits: int, order: tuple[int, ...]) -> Tensor:
    """[rows, count] → int32 [rows, words]: each word holds the codes ``order`` of as many, from the lowest bits up."""
    rows, count = codes.shape
    each = len(order)
    found = np.zeros((rows, count // each), np.int64)
    for row in range(rows):
        for word in range(count // each):
            for place, which in enumerate(order):
                found[row, word] |= int(codes[row, word * each + which]) << bits * place
    return torch.from_numpy(found.astype(np.uint32).view(np.int32))


def pairs(codes: Tensor) -> Tensor:
    """[rows, count] → uint8 [rows, count/2]: the first of two in the low half."""
    return (codes[:, 0::2] | codes[:, 1::2] << 4).to(torch.uint8)


def e2m1(codes: Tensor) -> Tensor:
    """What four bits stand for: sign, two bits of exponent, one of fraction."""
    sign = 1 - 2 * (codes >> 3)
    exponent, fraction = (codes >> 1 & 3).float(), (codes & 1).float()
    size = torch.where(exponent == 0, fraction / 2, torch.exp2(exponent - 1) * (1 + fraction / 2))
    return sign * size


def e4m3(rows: int, columns: int) -> Tensor:
    """Random codes, each of them a number."""
    codes = torch.randint(0, 256, (rows, columns), dtype=torch.uint8)
    codes[(codes & 127) == 127] = 60  # those two stand for NaN
    return codes.view(torch.float8_e4m3fn)
