"""compressed-tensors: integers packed or whole, floats of 8 and of 4 bits, by tensor, channel, group or block.

A module's tensors say what it is: ``weight_packed`` in words is a stream of integers, in bytes it is pairs of E2M1
(NVFP4 with ``weight_global_scale``, MXFP4 without); ``weight`` in 8 bits is codes as they are. The config's groups say
the width of integers and how activations are rounded. Each step is rounded as the library's ``decompress`` does it, to
the scales' dtype.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import (
    E2M1,
    Floats,
    exponents,
    number,
    rounded,
    scaled,
    spread,
    unpack,
    words,
)
from qfund.checkpoints.wild.packed.source import Source, groups_text
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel

_FLOATS = ("BF16", "F16", "F32")
_READ = (
    "dense",
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "mixed-precision",
)
#: Scales of activations and of the key-value cache, which a kernel rounds with.
_OF_INPUTS = ("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point")


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: companions are missing, or shapes do not belong together.
        UnsupportedModel: a layout that is no plain one (sparse, Marlin's), or groups of codes other than E2M1 and FP8.
    """
    _must_be_read(source)
    for name, stored in source.tensors.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight_packed" and stored.dtype == "U8":
            yield _fp4(source, module)
        elif kind == "weight_packed":
            yield _packed(source, module)
        elif kind == "weight" and f"{module}.weight_scale" in source.tensors:
            yield _whole(source, module)


def inputs(source: Source) -> str | None:
    """How kernels round activations as the config says: ``"int8, one scale a token"``."""
    found = []
    for group in _groups(source).values():
        given = group.get("input_activations")
        if isinstance(given, dict):
            when = "static" if not given.get("dynamic") else f"one scale a {given.get('strategy') or 'token'}"
            if given.get("strategy") in ("group", "tensor_group"):
                when = f"groups of {given.get('group_size')}"
            text = f"{given.get('type') or 'int'}{given.get('num_bits') or 8}, {when}"
            if text not in found:
                found.append(text)
    return "; ".join(found) or None


def _groups(source: Source) -> Mapping[str, Mapping[str, Any]]:
    groups = source.settings.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise source.corrupt("config_groups", "is no object of objects")
    return groups


def _must_be_read(source: Source) -> None:
    given = [source.settings.get("format"), *(group.get("format") for group in _groups(source).values())]
    sparse = source.settings.get("sparsity_config")
    if isinstance(sparse, dict) and sparse.get("format") not in (None, "dense"):
        given.append(sparse["format"])
    for name in given:
        if name is not None and name not in _READ:
            raise UnsupportedModel(
                f"{source.folder.name} is in the layout {name!r} of compressed-tensors, which is no plain one.",
                "Decompress it with the library first, or name a checkpoint in another layout.",
            )


def _scheme(source: Source, module: str) -> Mapping[str, Any]:
    """What the config says of a module's weights: by its own name or a pattern, else by its class (a linear one)."""
    classes: Mapping[str, Any] = {}
    for group in _groups(source).values():
        weights = group.get("weights")
        if not isinstance(weights, dict):
            continue
        targets = group.get("targets")
        for text in map(str, targets if isinstance(targets, list) else ()):
            if text == module or (text.startswith("re:") and _matches(source, text[3:], module)):
                return weights
            if not text.startswith("re:") and "." not in text:
                embedding = text == "Embedding"
                if not classes or embedding == ("embed" in module):
                    classes = weights
    return classes


def _matches(source: Source, pattern: str, module: str) -> bool:
    try:
        return re.match(pattern, module) is not None
    except re.error as error:
        raise source.corrupt("config_groups", f"has {pattern[:80]!r}, which is no pattern") from error


def _parts(source: Source, module: str, *kinds: str) -> tuple[str, ...]:
    """Of these, and of the scales of activations, those that are there."""
    names = (f"{module}.{kind}" for kind in (*kinds, *_OF_INPUTS))
    return tuple(name for name in names if name in source.tensors)


def _packed(source: Source, module: str) -> PackedTensor:
    packed, scale, zero, size, order = (
        f"{module}.weight_{kind}" for kind in ("packed", "scale", "zero_point", "shape", "g_idx")
    )
    rows, line = source.header(packed, ("I32",), (None, None)).shape
    columns = _columns(source, size, rows)
    scheme = _scheme(source, module)
    bits = scheme.get("num_bits")
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        raise source.corrupt(packed, f"has codes of {bits!r} bits, says config.json; 1 to 8 are read")
    if line == words(columns, bits):
        dense = True
    elif line == -(-columns // (32 // bits)):
        dense = False  # as versions before 0.16 packed 3, 5, 6 and 7 bits: none across two words
    else:
        raise source.corrupt(packed, f"has {line} words a row, which are not {columns} codes of {bits} bits")
    stored = source.header(scale, _FLOATS)
    shape, group = _granularity(source, module, stored.shape, rows, columns)
    if zero in source.tensors:
        source.header(zero, ("I32",), (words(shape[0], bits), shape[1]))
    if order in source.tensors:
        source.header(order, ("I32", "I64"), (columns,))
    middle = 2 ** (bits - 1)

    def decode(first: int, last: int) -> NDArray[np.float32]:
        lines = source.array(packed)[first:last]
        codes = unpack(lines, bits, columns) if dense else _with_gaps(lines, bits, columns)
        some = slice(first, last) if shape[0] == rows else slice(None)
        scales = number(source.array(scale).reshape(shape)[some])
        if zero in source.tensors:
            zeros = number(unpack(source.array(zero).T, bits, shape[0]).T[some])
        else:
            zeros = np.full_like(scales, middle)
        width = group
        if order in source.tensors:
            which = source.array(order).astype(np.int64)
            if which.min() < -1 or which.max() >= shape[1]:
                raise source.corrupt(order, f"names group {which.max()} of {shape[1]}")
            if which.min() >= 0:
                scales, zeros, width = scales[:, which], zeros[:, which], 1
        return scaled(codes, scales, zeros, width, stored.dtype)

    type_ = f"int{bits}{_scope(shape, rows, group, columns, _scheme(source, module).get('group_size'))}"
    parts = _parts(source, module, "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
    return source.packed(f"{module}.weight", (rows, columns), type_, decode, parts)


def _columns(source: Source, size: str, rows: int) -> int:
    source.header(size, ("I64", "I32"), (2,))
    first, columns = (int(value) for value in source.array(size))
    if first != rows or not 0 < columns < 2**32:
        raise source.corrupt(size, f"says {first}×{columns}, where {rows} rows are stored")
    return columns


def _with_gaps(lines: NDArray[np.generic], bits: int, columns: int) -> NDArray[np.uint8]:
    places = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    codes = (np.ascontiguousarray(lines).view(np.uint32)[..., None] >> places) & np.uint32(2**bits - 1)
    return codes.astype(np.uint8).reshape(len(lines), -1)[:, :columns]


def _granularity(
    source: Source, module: str, shape: tuple[int, ...], rows: int, columns: int
) -> tuple[tuple[int, int], int]:
    """The scales as [rows or one, groups], and how many columns share one."""
    count = int(np.prod(shape)) if shape else 1
    if count == 1:
        return (1, 1), columns
    if shape in ((rows,), (rows, 1)):
        return (rows, 1), columns
    size = _scheme(source, module).get("group_size")
    if len(shape) == 2 and shape[0] == rows and shape[1]:
        group = size if isinstance(size, int) and size > 0 else -(-columns // shape[1])
        if -(-columns // group) == shape[1]:
            return (rows, shape[1]), group
    raise source.corrupt(f"{module}.weight_scale", f"has shape {shape} for {rows}×{columns} weights")


def _scope(shape: tuple[int, int], rows: int, group: int, columns: int, said: object) -> str:
    return " per tensor" if shape == (1, 1) and rows > 1 else groups_text(group, columns, said)


def _whole(source: Source, module: str) -> PackedTensor:
    weight, scale, zero = (f"{module}.{kind}" for kind in ("weight", "weight_scale", "weight_zero_point"))
    kind = source.header(weight, ("I8", "F8_E4M3", "F8_E5M2"), (None, None))
    rows, columns = kind.shape
    stored = source.header(scale, (*_FLOATS, "U8"))
    scheme = _scheme(source, module)
    block = scheme.get("block_structure")
    if isinstance(block, str):
        block = [int(part) for part in block.split("x") if part.isdecimal()]
    dtype = "BF16" if stored.dtype == "U8" else stored.dtype  # MXFP8's exponents
    has_zeros = zero in source.tensors
    if scheme.get("strategy") == "block":
        height, width = _block(source, scale, block, rows, columns, stored.shape)
        shape, group = (stored.shape[0], stored.shape[1]), width
    else:
        height = 1
        shape, group = _granularity(source, module, stored.shape, rows, columns)
    if has_zeros:
        source.header(zero, ("I8", "F8_E4M3", *_FLOATS))
        if source.tensors[zero].elements != stored.elements:
            raise source.corrupt(zero, "has other numbers of values than the scales")

    def decode(first: int, last: int) -> NDArray[np.float32]:
        codes = source.array(weight)[first:last]

        def rows_of(name: str) -> Floats:
            values = source.array(name)
            wide = (exponents(values) if values.dtype == np.uint8 else number(values)).reshape(shape)
            if height > 1:
                return wide[np.arange(first, last) // height]
            return wide[first:last] if shape[0] == rows else wide

        return scaled(codes, rows_of(scale), rows_of(zero) if has_zeros else None, group, dtype)

    name = f"int8{_scope(shape, rows, group, columns, _scheme(source, module).get('group_size'))}"
    if kind.dtype != "I8":
        said = scheme.get("group_size")
        scope = f" blocks of {height}×{group}" if height > 1 else _scope(shape, rows, group, columns, said)
        element = kind.dtype[3:].lower()
        name = f"mxfp8 {element}" if stored.dtype == "U8" else f"fp8 {element}{scope}"
    parts = _parts(source, module, "weight", "weight_scale", "weight_zero_point")
    return source.packed(weight, (rows, columns), name, decode, parts)


def _block(source: Source, scale: str, block: Any, rows: int, columns: int, shape: tuple[int, ...]) -> tuple[int, int]:
    whole = isinstance(block, list) and len(block) == 2 and all(isinstance(size, int) and size > 0 for size in block)
    if not whole:
        raise source.corrupt(scale, f"is said to be of blocks of {block}")
    height, width = block
    if shape != (-(-rows // height), -(-columns // width)):
        raise source.corrupt(scale, f"has shape {shape} for {rows}×{columns} weights in blocks of {height}×{width}")
    return height, width


def _fp4(source: Source, module: str) -> PackedTensor:
    packed, scale, overall = (f"{module}.{kind}" for kind in ("weight_packed", "weight_scale", "weight_global_scale"))
    rows, half = source.header(packed, ("U8",), (None, None)).shape
    columns = 2 * half
    nvidia = overall in source.tensors
    group = 16 if nvidia else 32
    source.header(scale, ("F8_E4M3",) if nvidia else ("U8",), (rows, -(-columns // group)))
    if nvidia:
        source.header(overall, ("F32",))
        if source.tensors[overall].elements != 1:
            raise source.corrupt(overall, "is not one number")
    if columns % group:
        raise source.corrupt(packed, f"has {columns} columns, which are no groups of {group}")

    def decode(first: int, last: int) -> NDArray[np.float32]:
        values = E2M1[unpack(source.array(packed)[first:last], 4, columns)]
        codes = source.array(scale)[first:last]
        if not nvidia:
            return rounded(values * spread(exponents(codes), columns, group), "BF16")
        divisor = source.array(overall)
        scales = number(codes) / number(divisor.reshape(-1))[0]
        if not divisor.ndim:  # a scalar leaves the quotient in bfloat16, and then the product too
            scales = rounded(scales, "BF16")
        return rounded(values * spread(scales, columns, group), "BF16")

    parts = _parts(source, module, "weight_packed", "weight_scale", "weight_global_scale", "weight_zero_point")
    return source.packed(f"{module}.weight", (rows, columns), "nvfp4" if nvidia else "mxfp4", decode, parts)
