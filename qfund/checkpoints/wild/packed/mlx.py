"""MLX: ``weight`` in words of 32 bits, a stream of codes along each row, with ``scales`` and ``biases`` for each group.

A weight is code × scale + bias, each step in the scales' dtype, as MLX's own ``dequantize`` is composed of operations.
Stacks of experts are [experts, out, in]. Modes with exponents for scales (``mxfp4``, ``mxfp8``) and NVFP4's have no
biases. transformers' ``metal`` is the same with ``qbiases``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import E2M1, exponents, number, rounded, unpack
from qfund.checkpoints.wild.packed.source import Source
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel

_FLOATS = ("F16", "BF16", "F32")
_MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: companions are missing, or shapes do not belong together.
        UnsupportedModel: a mode that is not known.
    """
    for name, stored in source.tensors.items():
        if name.endswith(".weight") and stored.dtype in ("U32", "I32"):
            yield _weight(source, name.removesuffix(".weight"))


def settings_of(source: Source, module: str) -> Mapping[str, Any]:
    """What the config says of a module: its own settings, where it has some, over those of all."""
    own = source.settings.get(module)
    return {**source.settings, **own} if isinstance(own, dict) else source.settings


def _weight(source: Source, module: str) -> PackedTensor:
    weight, scale = f"{module}.weight", f"{module}.scales"
    stored = source.header(weight, ("U32", "I32"))
    grid = source.header(scale, (*_FLOATS, "U8"))
    if len(stored.shape) not in (2, 3) or grid.shape[:-1] != stored.shape[:-1]:
        raise source.corrupt(scale, f"has shape {grid.shape} for codes of {stored.shape}")
    said = settings_of(source, module)
    mode = str(said.get("mode") or "affine")
    if mode != "affine" and mode not in _MODES:
        raise UnsupportedModel(
            f"{source.folder.name} is in MLX's mode {mode[:40]!r}.", f"These are read: affine, {', '.join(_MODES)}."
        )
    bits, group = (said.get("bits", 4), said.get("group_size", 64)) if mode == "affine" else _MODES[mode]
    if not isinstance(group, int) or not isinstance(bits, int) or group <= 0:
        raise source.corrupt(weight, f"is said to be {bits!r} bits in groups of {group!r}")
    columns = grid.shape[-1] * group
    if not columns or not 1 <= bits <= 8 or stored.shape[-1] * 32 != columns * bits:
        raise source.corrupt(
            weight, f"has {stored.shape[-1]} words a row, which are not {columns} codes of {bits} bits"
        )
    bias = next((name for kind in ("biases", "qbiases") if (name := f"{module}.{kind}") in source.tensors), None)
    if mode == "affine":
        source.header(bias or f"{module}.biases", _FLOATS, grid.shape)
    elif grid.dtype != "U8":
        raise source.corrupt(scale, f"is in {grid.dtype} instead of U8")
    shape = (*stored.shape[:-1], columns)

    def decode(first: int, last: int) -> NDArray[np.float32]:
        codes = unpack(source.array(weight)[first:last], bits, columns)
        some = source.array(scale)[first:last]
        grouped = (*codes.shape[:-1], -1, group)
        if mode == "affine":
            assert bias is not None
            values = rounded(number(codes).reshape(grouped) * number(some)[..., None], grid.dtype)
            values = rounded(values + number(source.array(bias)[first:last])[..., None], grid.dtype)
        else:
            elements = E2M1[codes] if bits == 4 else number(codes.view(ml_dtypes.float8_e4m3fn))
            scales = number(some.view(ml_dtypes.float8_e4m3fn)) if mode == "nvfp4" else exponents(some)
            values = rounded(elements.reshape(grouped) * scales[..., None], source.dtype)
        return values.reshape(codes.shape)

    type_ = f"int{bits} g{group}" if mode == "affine" else mode
    return source.packed(weight, shape, type_, decode, (weight, scale, *((bias,) if bias else ())))
