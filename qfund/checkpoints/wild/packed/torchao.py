"""torchao as transformers saves it in safetensors: ``module._weight_qdata``, ``_weight_scale`` and others, and in the
header of the file what class each tensor had, with its block size and dtypes (``tensor_names`` lists them). No class is
built here.

Each is unpacked as the class's ``dequantize`` does it: integers in the weight's own dtype, floats in float32 and then
cast.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.headers import shortened
from qfund.checkpoints.wild.packed import torchao_int4
from qfund.checkpoints.wild.packed.arithmetic import E2M1, NAMED, Floats, exponents, number, rounded, spread, unpack
from qfund.checkpoints.wild.packed.source import AGAIN, Source, groups_text
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel

_FLOATS = ("F32", "BF16", "F16")
_FP8 = ("F8_E4M3", "F8_E5M2")


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: the header does not describe the tensors, or parts are missing.
        UnsupportedModel: a class whose layout is a kernel's own.
    """
    names = _json(source, "tensor_names", source.metadata.get("tensor_names", ""))
    if not isinstance(names, list) or not names:
        raise source.corrupt(
            "tensor_names", "is missing from the headers, which is where torchao describes its tensors"
        )
    for name in names:
        described = _json(source, str(name), source.metadata.get(str(name), ""))
        kind = described.get("_type") if isinstance(described, dict) else None
        if kind != "Tensor":
            yield _tensor(source, str(name), str(kind), described)


def inputs(source: Source) -> str | None:
    """What the classes say of activations."""
    found = set()
    for name, text in source.metadata.items():
        if name in source.tensors or name in ("tensor_names", "format"):
            continue
        described = _json(source, name, text)
        data = described.get("_data") if isinstance(described, dict) else None
        if not isinstance(data, dict):
            continue
        if data.get("act_quant_kwargs") or data.get("activation_quantization"):
            kind = str(described.get("_type"))
            width = {"Float8Tensor": "fp8", "NVFP4Tensor": "nvfp4", "MXTensor": "mx"}.get(kind, "int8")
            found.add(f"{width}, by token or group")
        if "float8" in str(data.get("activation_dtype")):
            found.add("fp8, by token")
    return "; ".join(sorted(found)) or None


def _json(source: Source, name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise source.corrupt(name, "is not described in the headers as torchao does it") from error


def _tensor(source: Source, name: str, kind: str, described: Mapping[str, Any]) -> PackedTensor:
    data = described.get("_data")
    if not isinstance(data, dict):
        raise source.corrupt(name, "is not described in the headers as torchao does it")
    module, _, leaf = name.rpartition(".")
    if leaf != "weight":
        raise UnsupportedModel(
            f"{source.folder.name} holds {shortened(name)}, a stack of experts, as torchao's {kind[:60]}: transformers "
            "describes it under another name than it stores it, and the original's experts lie one by one.",
            "Name a checkpoint whose experts torchao left in floats, or one that another library quantised.",
        )
    prefix = f"{module}._{leaf}_"
    parts = tuple(part for part in source.tensors if part.startswith(prefix))
    decoder = {
        "Int8Tensor": _integers,
        "IntxUnpackedToInt8Tensor": _integers,
        "Float8Tensor": _float8,
        "MXTensor": _mx,
        "NVFP4Tensor": _nvfp4,
        "Int4Tensor": torchao_int4.plain,
        "Int4PlainInt32Tensor": torchao_int4.words,
        "Int4TilePackedTo4dTensor": torchao_int4.tiles,
    }.get(kind)
    if decoder is None:
        raise UnsupportedModel(
            f"{source.folder.name} holds {shortened(name)} as torchao's {kind[:60]}, whose codes lie as one kernel "
            "wants them.",
            "Name the original checkpoint, or one in int4, int8, intx, float8, MX or NVFP4.",
        )
    named = described.get("_tensor_data_names")
    for part in named if isinstance(named, list) else ():
        if f"{prefix}{part}" not in source.tensors:  # the lack of a zero-point or a scale of inputs would not be seen
            raise CorruptCheckpoint(f"{source.folder.name} lacks {shortened(f'{prefix}{part}')}.", AGAIN)
    found = decoder(source, name, prefix, data, parts)
    before = f"{prefix}act_pre_scale"
    return _of_scaled_inputs(source, found, before) if before in source.tensors else found


def _of_scaled_inputs(source: Source, tensor: PackedTensor, before: str) -> PackedTensor:
    """Of inputs that are multiplied by ``before`` [in] first (AWQ, SmoothQuant): the same product comes of a weight
    whose columns are, in float32."""
    if source.header(before, _FLOATS).elements != tensor.shape[-1]:
        raise source.corrupt(before, f"is not one number for each of {tensor.shape[-1]} columns")

    def decode(first: int, last: int) -> NDArray[np.float32]:
        return tensor.decode(first, last) * number(source.array(before).reshape(-1))

    return replace(tensor, decode=decode)


def _dtype(source: Source, name: str, data: Mapping[str, Any], key: str) -> str:
    """A dtype as the encoder writes it: ``{"_type": "torch.dtype", "_data": "bfloat16"}``."""
    said = data.get(key)
    text = said.get("_data") if isinstance(said, dict) else said
    if not isinstance(text, str) or text not in NAMED:
        raise source.corrupt(name, f"is described with the {key} {text!r}")
    return NAMED[text]


def _blocks(source: Source, name: str, data: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a block of a matrix."""
    said = data.get("block_size")
    if not isinstance(said, list) or len(said) != 2 or not all(isinstance(size, int) for size in said):
        raise source.corrupt(name, f"is described with blocks of {said!r}")
    height, width = (size if size > 0 else whole for size, whole in zip(said, shape, strict=True))
    if shape[0] % height or shape[1] % width:
        raise source.corrupt(name, f"has shape {shape}, which blocks of {height}×{width} do not fill")
    return height, width


def _integers(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    codes, scale, zero = (f"{prefix}{kind}" for kind in ("qdata", "scale", "zero_point"))
    shape = source.header(codes, ("I8",), (None, None)).shape
    height, width = _blocks(source, name, data, shape)
    dtype = _dtype(source, name, data, "dtype")
    down, across = shape[0] // height, shape[1] // width
    grid = source.header(scale, _FLOATS)
    has_zeros = zero in source.tensors
    if grid.elements != down * across:
        raise source.corrupt(scale, f"has {grid.elements} values for {down}×{across} blocks")
    if has_zeros and source.header(zero, ("I8", "I32", "I64", *_FLOATS)).elements != grid.elements:
        raise source.corrupt(zero, "has other numbers of values than the scales")
    wide = dtype if grid.dtype == dtype else "F32"  # as torch multiplies two dtypes

    def decode(first: int, last: int) -> NDArray[np.float32]:
        lines = np.arange(first, last) // height

        def rows_of(part: str) -> Floats:
            return spread(number(source.array(part).reshape(down, across))[lines], shape[1], width)

        values = number(source.array(codes)[first:last])
        if has_zeros:
            values = rounded(values - rounded(rows_of(zero), dtype), dtype)
        return rounded(rounded(values * rows_of(scale), wide), dtype)

    target = data.get("target_dtype")
    text = str(target.get("_data") if isinstance(target, dict) else "int8")
    scope = (
        " per tensor"
        if down == across == 1 and shape[0] > 1
        else groups_text(width, shape[1], width if across > 1 else None)
    )
    return source.packed(name, shape, f"{text}{scope}", decode, parts)


def _float8(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    codes, scale = f"{prefix}qdata", f"{prefix}scale"
    stored = source.header(codes, _FP8, (None, None))
    shape = stored.shape
    grid = source.header(scale, _FLOATS)
    down, across = grid.shape if len(grid.shape) == 2 else (1, 1)
    if grid.elements != down * across or not down or not across or shape[0] % down or shape[1] % across:
        raise source.corrupt(scale, f"has shape {grid.shape} for {shape} weights")
    dtype = _dtype(source, name, data, "dtype")
    height, width = shape[0] // down, shape[1] // across
    if data.get("block_size") is not None and _blocks(source, name, data, shape) != (height, width):
        raise source.corrupt(scale, f"has shape {grid.shape}, which are no blocks of {data['block_size']}")

    def decode(first: int, last: int) -> NDArray[np.float32]:
        scales = number(source.array(scale)).reshape(down, across)[np.arange(first, last) // height]
        return rounded(number(source.array(codes)[first:last]) * spread(scales, shape[1], width), dtype)

    scope = " per tensor" if down == across == 1 else groups_text(width, shape[1])
    if height > 1 and across > 1:
        scope = f" blocks of {height}×{width}"
    return source.packed(name, shape, f"fp8 {stored.dtype[3:].lower()}{scope}", decode, parts)


def _mx(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    codes, scale = f"{prefix}qdata", f"{prefix}scale"
    stored = source.header(codes, (*_FP8, "U8", "F4"), (None, None))
    pairs = stored.dtype not in _FP8
    rows, columns = stored.shape[0], stored.shape[1] * (2 if stored.dtype == "U8" else 1)
    group = data.get("block_size")
    dtype = _dtype(source, name, data, "orig_dtype")
    element = str(data.get("elem_dtype"))
    if (pairs and "float4" not in element) or not isinstance(group, int) or group <= 0 or columns % group:
        raise source.corrupt(name, f"is described as {element[:60]} in blocks of {group!r}")
    _scales_header(source, scale, data, rows, columns // group, ("F8_E8M0", "U8"))

    def decode(first: int, last: int) -> NDArray[np.float32]:
        some = source.array(codes)[first:last]
        values = E2M1[unpack(some.view(np.uint8), 4, columns)] if pairs else number(some)
        powers = exponents(_unswizzled(source, scale, data, rows, columns // group)[first:last].view(np.uint8))
        return rounded(values * spread(rounded(powers, dtype), columns, group), dtype)

    return source.packed(
        name, (rows, columns), "mxfp4" if pairs else f"mxfp8 {stored.dtype[3:].lower()}", decode, parts
    )


def _nvfp4(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    codes, scale, overall = (f"{prefix}{kind}" for kind in ("qdata", "scale", "per_tensor_scale"))
    stored = source.header(codes, ("U8", "F4"), (None, None))
    rows, columns = stored.shape[0], stored.shape[1] * (2 if stored.dtype == "U8" else 1)
    group = data.get("block_size")
    dtype = _dtype(source, name, data, "orig_dtype")
    if not isinstance(group, int) or group <= 0 or columns % group:
        raise source.corrupt(name, f"is described in blocks of {group!r}")
    _scales_header(source, scale, data, rows, columns // group, ("F8_E4M3",))
    if overall in source.tensors and source.header(overall, ("F32",)).elements != 1:
        raise source.corrupt(overall, "is not one number")

    def decode(first: int, last: int) -> NDArray[np.float32]:
        values = E2M1[unpack(source.array(codes)[first:last].view(np.uint8), 4, columns)]
        scales = number(_unswizzled(source, scale, data, rows, columns // group)[first:last])
        if overall in source.tensors:
            scales *= number(source.array(overall).reshape(-1))[0]
        return rounded(values * spread(scales, columns, group), dtype)

    return source.packed(name, (rows, columns), "nvfp4", decode, parts)


def _scales_header(
    source: Source, scale: str, data: Mapping[str, Any], rows: int, groups: int, dtypes: tuple[str, ...]
) -> None:
    needed = -(-rows // 128) * 128 * -(-groups // 4) * 4 if data.get("is_swizzled_scales") else rows * groups
    if source.header(scale, dtypes).elements != needed:
        raise source.corrupt(scale, f"has other than {needed} values")


def _unswizzled(source: Source, scale: str, data: Mapping[str, Any], rows: int, groups: int) -> NDArray[np.generic]:
    """Scales [rows, groups]. GPUs have them in tiles of 128 rows, 4 groups; row r of one is at (r mod 32, r / 32)."""
    stored = source.array(scale)
    if not data.get("is_swizzled_scales"):
        return stored.reshape(rows, groups)
    down, across = -(-rows // 128), -(-groups // 4)
    tiles = stored.reshape(down, across, 32, 4, 4).transpose(0, 3, 2, 1, 4)
    return tiles.reshape(128 * down, 4 * across)[:rows, :groups]
