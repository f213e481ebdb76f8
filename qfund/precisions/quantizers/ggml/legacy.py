"""ggml's first types where an importance matrix is given: 32 weights to a scale, some with a minimum.

Each encoder takes [blocks, 32] float32 and what an error of each weight costs, and gives [blocks, bytes] uint8 as
``ggml-quants.c`` lays them out. Without an importance matrix, ``gguf`` makes the same bytes as llama-quantize.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from qfund.precisions.quantizers.ggml.k_types import Bytes, important
from qfund.precisions.quantizers.ggml.search import Floats, symmetric, symmetric_codes


def _packed(numbers: list[Floats], codes: Floats, bits: int) -> Bytes:
    """Numbers in float16, the fifth bits of all codes where there are five, and the lower four: the first 16 low."""
    whole = np.ascontiguousarray(codes.astype(np.uint8).T)
    parts = [number.astype("<f2")[:, None].view(np.uint8) for number in numbers]
    if bits == 5:
        parts.append(np.packbits(whole >> 4, axis=1, bitorder="little"))
    return np.concatenate([*parts, whole[:, :16] & 15 | (whole[:, 16:] & 15) << 4], 1)


def _symmetric(x: Floats, costs: Floats, bits: int) -> Bytes:
    blocks, top = np.ascontiguousarray(x.T), 2 ** (bits - 1)
    scale, inverse = symmetric(blocks, np.ascontiguousarray(costs.T), top, 9)
    return _packed([scale], symmetric_codes(blocks, inverse, top) + np.float32(top), bits)


def _affine(x: Floats, costs: Floats, bits: int) -> Bytes:
    blocks, top = np.ascontiguousarray(x.T), 2**bits - 1
    found = important(blocks, np.ascontiguousarray(costs.T), top)
    codes = np.clip(np.rint(found.inverse * (blocks - found.origin)), 0, top)
    return _packed([found.scale, found.minimum], codes, bits)


ENCODERS: dict[str, Callable[[Floats, Floats], Bytes]] = {
    "Q4_0": partial(_symmetric, bits=4),
    "Q5_0": partial(_symmetric, bits=5),
    "Q4_1": partial(_affine, bits=4),
    "Q5_1": partial(_affine, bits=5),
}
