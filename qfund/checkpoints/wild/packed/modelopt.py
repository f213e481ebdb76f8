"""NVIDIA ModelOpt: FP8 (one scale a tensor, or blocks), NVFP4 and INT4 AWQ, as ``hf_quant_config.json`` says.

FP8: ``weight`` in E4M3 × ``weight_scale``. NVFP4: pairs of E2M1 in ``weight`` × (``weight_scale`` in E4M3, one for 16,
× ``weight_scale_2``). INT4 AWQ: ``weight`` [out/2, in] holds outputs 2i and 2i + 1 in the low and the high half of a
byte, two's complement, × ``weight_scale`` [out, in/group]; inputs are multiplied by ``pre_quant_scale``, which is taken
into the weight here. All in float32, which no cast follows.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import E2M1, Floats, number, spread, unpack
from qfund.checkpoints.wild.packed.source import Source, groups_text
from qfund.checkpoints.wild.packed_tensor import PackedTensor

_FLOATS = ("F32", "BF16", "F16")


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: scales are missing, or shapes do not belong together.
    """
    for name, stored in source.tensors.items():
        module = name.removesuffix(".weight")
        if not name.endswith(".weight") or not (stored.is_coded or f"{module}.weight_scale" in source.tensors):
            continue
        if stored.dtype == "U8" and source.tensors.get(f"{module}.weight_scale_2"):
            scales = source.tensors.get(f"{module}.weight_scale")
            yield _int4(source, module) if scales and scales.dtype in _FLOATS else _nvfp4(source, module)
        elif stored.dtype == "U8":
            yield _int4(source, module)
        else:
            yield _fp8(source, module)


def inputs(source: Source) -> str | None:
    """What its kernels round besides weights."""
    algorithm = str(source.settings.get("quant_algo") or "").upper()
    if "W4A16" in algorithm or "W8A16" in algorithm:
        return None
    if "NVFP4" in algorithm:
        return "nvfp4, groups of 16"
    return "fp8, one static scale" if "FP8" in algorithm or "W4A8" in algorithm else None


def _parts(source: Source, module: str) -> tuple[str, ...]:
    kinds = ("weight", "weight_scale", "weight_scale_2", "weight_scale_inv", "input_scale", "pre_quant_scale")
    return tuple(name for kind in kinds if (name := f"{module}.{kind}") in source.tensors)


def _fp8(source: Source, module: str) -> PackedTensor:
    weight, scale = f"{module}.weight", f"{module}.weight_scale"
    rows, columns = source.header(weight, ("F8_E4M3",), (None, None)).shape
    grid = source.header(scale, _FLOATS)
    # Blocks are stored as [down, 1, across, 1] by some versions.
    shape = tuple(size for size in grid.shape if size != 1)
    down, across = shape if len(shape) == 2 else (grid.elements, 1)
    if not down or not across or rows % down or columns % across or len(shape) > 2:
        block = 128  # ragged at the edges
        if (down, across) != (-(-rows // block), -(-columns // block)):
            raise source.corrupt(scale, f"has shape {grid.shape} for {rows}×{columns} weights")
        height = width = block
    else:
        height, width = rows // down, columns // across

    def decode(first: int, last: int) -> NDArray[np.float32]:
        scales = number(source.array(scale)).reshape(down, across)[np.arange(first, last) // height]
        return number(source.array(weight)[first:last]) * spread(scales, columns, width)

    scope = " per tensor" if grid.elements == 1 else f" blocks of {height}×{width}" if height > 1 else " per channel"
    return source.packed(weight, (rows, columns), f"fp8 e4m3{scope}", decode, _parts(source, module))


def _nvfp4(source: Source, module: str) -> PackedTensor:
    weight, scale, overall = (f"{module}.{kind}" for kind in ("weight", "weight_scale", "weight_scale_2"))
    rows, half = source.header(weight, ("U8",), (None, None)).shape
    columns = 2 * half
    if columns % 16:
        raise source.corrupt(weight, f"has {columns} columns, which are no groups of 16")
    source.header(scale, ("F8_E4M3",), (rows, columns // 16))
    if source.header(overall, ("F32",)).elements != 1:
        raise source.corrupt(overall, "is not one number")

    def decode(first: int, last: int) -> NDArray[np.float32]:
        scales = number(source.array(scale)[first:last]) * number(source.array(overall).reshape(-1))[0]
        values: Floats = E2M1[unpack(source.array(weight)[first:last], 4, columns)]
        return values * spread(scales, columns, 16)

    return source.packed(weight, (rows, columns), "nvfp4", decode, _parts(source, module))


def _int4(source: Source, module: str) -> PackedTensor:
    weight, scale, before = (f"{module}.{kind}" for kind in ("weight", "weight_scale", "pre_quant_scale"))
    half, columns = source.header(weight, ("U8", "I8"), (None, None)).shape
    rows = 2 * half
    groups = source.header(scale, _FLOATS, (rows, None)).shape[1]
    if not groups or columns % groups:
        raise source.corrupt(scale, f"has {groups} groups for {columns} columns")
    if before in source.tensors:
        source.header(before, _FLOATS, (columns,))

    def decode(first: int, last: int) -> NDArray[np.float32]:
        packed = source.array(weight).view(np.uint8)[first // 2 : -(-last // 2)]
        codes = np.stack([packed & 15, packed >> 4], 1).reshape(-1, columns)[first % 2 :][: last - first]
        values: Floats = ((codes ^ 8).astype(np.int8) - 8).astype(np.float32)
        values *= spread(number(source.array(scale)[first:last]), columns, columns // groups)
        if before in source.tensors:
            values *= number(source.array(before))
        return values

    type_ = f"int4{groups_text(columns // groups, columns, source.settings.get('group_size'))}"
    return source.packed(f"{module}.weight", (rows, columns), type_, decode, _parts(source, module))
