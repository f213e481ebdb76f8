"""FP8 as DeepSeek publishes it and transformers' ``fp8`` writes it: ``weight`` in E4M3, ``weight_scale_inv`` by block.

Despite its name that scale multiplies. transformers multiplies in float32 and casts to the model's dtype. Experts may
be E2M1 in pairs (``int8``), with exponents for scales. FBGEMM's is the same with ``weight_scale``, one a row.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import E2M1, Floats, exponents, number, rounded, unpack
from qfund.checkpoints.wild.packed.source import Source
from qfund.checkpoints.wild.packed_tensor import PackedTensor

_SCALES = ("F32", "BF16", "F16", "U8", "F8_E8M0")


def tensors(source: Source, suffix: str = "weight_scale_inv") -> Iterator[PackedTensor]:
    """``suffix`` is what the scales are called.

    Raises:
        CorruptCheckpoint: scales are missing, or of another grid.
    """
    for name, stored in source.tensors.items():
        scale = f"{name}{suffix.removeprefix('weight')}"  # experts in one stack have no ".weight" in their names
        if stored.dtype in ("F8_E4M3", "F8_E5M2") or (scale in source.tensors and stored.dtype in ("I8", "U8")):
            yield _weight(source, name, scale)


def inputs(source: Source) -> str:
    static = source.settings.get("activation_scheme") == "static"
    block = _said(source)
    return f"fp8, {'one static scale' if static else f'groups of {block[1]}' if block else 'one scale a token'}"


def _said(source: Source) -> tuple[int, int] | None:
    """Rows and columns of a block; None for one scale a tensor or a row. transformers takes 128×128 unasked."""
    method = source.settings.get("quant_method")
    said = source.settings.get("weight_block_size", [128, 128] if method == "fp8" else None)
    if isinstance(said, list) and len(said) == 2 and all(isinstance(size, int) and size > 0 for size in said):
        return said[0], said[1]
    return None


def _weight(source: Source, name: str, scale: str) -> PackedTensor:
    stored = source.header(name, ("F8_E4M3", "F8_E5M2", "I8", "U8"))
    grid = source.header(scale, _SCALES)
    if len(stored.shape) not in (2, 3):
        raise source.corrupt(name, f"has {len(stored.shape)} dimensions")
    pairs = stored.dtype in ("I8", "U8")
    shape = (*stored.shape[:-1], stored.shape[-1] * (2 if pairs else 1))
    height, width = _block(source, scale, shape, grid.shape, pairs)
    dtype = source.dtype

    def decode(first: int, last: int) -> NDArray[np.float32]:
        codes = source.array(name)
        scales = source.array(scale)
        wide = exponents(scales) if scales.dtype == np.uint8 else number(scales)
        if wide.ndim < 2:
            wide = wide.reshape((*shape[:-2], -1, 1) if wide.size > 1 else (1, 1))
        if len(shape) == 3:
            some = wide[first:last] if wide.ndim == 3 else np.broadcast_to(wide, (last - first, *wide.shape))
            return np.stack([product(codes[first + i], some[i], 0, shape[1]) for i in range(last - first)])
        return product(codes, wide, first, last)

    def product(codes: NDArray[np.generic], scales: Floats, first: int, last: int) -> Floats:
        some = codes[first:last]
        values = E2M1[unpack(some.view(np.uint8), 4, shape[-1])] if pairs else number(some)
        lines = scales[np.arange(first, last) // height]
        if scales.shape[-1] > 1:
            lines = np.repeat(lines, width, axis=-1)[:, : shape[-1]]
        return rounded(values * lines, dtype)

    scope = " per tensor" if grid.elements == 1 else f" blocks of {height}×{width}"
    if width >= shape[-1] and height == 1:
        scope = " per channel"
    type_ = f"{'fp4 e2m1' if pairs else 'fp8 ' + stored.dtype[3:].lower()}{scope}"
    others = (f"{name.removesuffix('weight')}{kind}" for kind in ("input_scale", "activation_scale", "input_scale_ub"))
    parts = (name, scale, *(other for other in others if other in source.tensors))
    return source.packed(name, shape, type_, decode, parts)


def _block(source: Source, scale: str, shape: tuple[int, ...], grid: tuple[int, ...], pairs: bool) -> tuple[int, int]:
    """Rows and columns that share a scale: as the config says, or one row; of four bits as the grid divides them."""
    rows, columns = shape[-2:]
    if int(np.prod(grid)) == 1:
        return rows, columns
    down, across = (grid[-1], 1) if len(grid) == 1 else grid[-2:]
    said = _said(source)
    if said is not None and (-(-rows // said[0]), -(-columns // said[1])) == (down, across):
        return said
    divides = down and across and rows % down == 0 and columns % across == 0
    if not divides or not (pairs or (down, across) == (rows, 1)) or (len(grid) == 3 and grid[0] != shape[0]):
        raise source.corrupt(scale, f"has shape {grid} for weights of {shape}")
    return rows // down, columns // across
