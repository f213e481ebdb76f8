"""AWQ in AutoAWQ's layout ``gemm``: ``qweight`` [in, out/8], ``qzeros`` [groups, out/8], ``scales`` [groups, out].

A word holds eight codes of four bits, of the outputs 0, 2, 4, 6, 1, 3, 5, 7 from the lowest bits up. A weight is (code
− zero-point) × scale, multiplied in the scales' dtype (float16), as AutoAWQ unpacks it. Scales of inputs are folded
into the layer before, so neither matrix is the original's; their product is.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import Codes, number, scaled, unpack
from qfund.checkpoints.wild.packed.source import Source, groups_text
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: companions are missing, or shapes do not belong together.
        UnsupportedModel: another layout, or other than four bits.
    """
    version = str(source.settings.get("version") or "gemm").lower()
    bits = source.settings.get("bits", source.settings.get("w_bit", 4))
    if version not in ("gemm", "exllama", "ipex") or bits != 4:
        raise UnsupportedModel(
            f"{source.folder.name} is AWQ in the layout {version!r} with {bits} bits; gemm with 4 is read.",
            "Name the checkpoint in the layout gemm.",
        )
    for name in source.tensors:
        if name.endswith(".qweight"):
            yield _weight(source, name.removesuffix(".qweight"))


def _weight(source: Source, module: str) -> PackedTensor:
    weight, zero, scale = (f"{module}.{kind}" for kind in ("qweight", "qzeros", "scales"))
    inputs, width = source.header(weight, ("I32", "U32"), (None, None)).shape
    stored = source.header(scale, ("F16", "BF16", "F32"), (None, 8 * width))
    groups = stored.shape[0]
    said = source.settings.get("group_size", source.settings.get("q_group_size"))
    if not groups or inputs % groups or (isinstance(said, int) and said > 0 and inputs != groups * said):
        raise source.corrupt(scale, f"has {groups} groups for {inputs} inputs")
    zeros = zero in source.tensors
    if zeros or source.settings.get("zero_point", True):
        source.header(zero, ("I32", "U32"), (groups, width))
        zeros = True
    group = inputs // groups

    def decode(first: int, last: int) -> NDArray[np.float32]:
        start = first // 8
        here = slice(first - 8 * start, last - 8 * start)

        def codes(name: str) -> Codes:
            return _ordered(source.array(name)[:, start : -(-last // 8)])[:, here].T

        scales = number(source.array(scale)[:, first:last].T)
        middle = number(codes(zero)) if zeros else np.full_like(scales, 8)
        return scaled(codes(weight), scales, middle, group, stored.dtype)

    parts = (weight, zero, scale) if zeros else (weight, scale)
    type_ = f"int4{groups_text(group, inputs, said)}"
    return source.packed(f"{module}.weight", (8 * width, inputs), type_, decode, parts)


def _ordered(packed: NDArray[np.generic]) -> Codes:
    """[rows, words] → [rows, 8 · words], outputs in their order."""
    nibbles = unpack(packed, 4, 8 * packed.shape[-1])
    return nibbles.reshape(*packed.shape, 2, 4).swapaxes(-1, -2).reshape(packed.shape[0], -1)
