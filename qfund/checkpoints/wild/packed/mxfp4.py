"""MXFP4 as gpt-oss has it: ``…_blocks`` [experts, out, groups, 16] of pairs of E2M1, ``…_scales`` [experts, out,
groups] of exponents. transformers keeps those experts as [experts, in, out] in bfloat16."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import E2M1, rounded, unpack
from qfund.checkpoints.wild.packed.source import Source
from qfund.checkpoints.wild.packed_tensor import PackedTensor


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: scales are missing, or shapes do not belong together.
    """
    for name in source.tensors:
        if name.endswith("_blocks"):
            yield _weight(source, name.removesuffix("_blocks"))


def _weight(source: Source, name: str) -> PackedTensor:
    blocks, scales = f"{name}_blocks", f"{name}_scales"
    experts, outputs, groups, half = source.header(blocks, ("U8",), (None, None, None, 16)).shape
    source.header(scales, ("U8",), (experts, outputs, groups))
    inputs = groups * 2 * half

    def decode(first: int, last: int) -> NDArray[np.float32]:
        values = E2M1[unpack(source.array(blocks)[first:last], 4, 2 * half)]
        powers = source.array(scales)[first:last].astype(np.int32) - 127
        found = rounded(np.ldexp(values, powers[..., None]), "BF16")
        return np.ascontiguousarray(found.reshape(last - first, outputs, inputs).transpose(0, 2, 1))

    return source.packed(name, (experts, inputs, outputs), "mxfp4", decode, (blocks, scales))
