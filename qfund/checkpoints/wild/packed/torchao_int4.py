"""The three classes in which torchao packs integers of four bits, each as the kernels of one maker of processors want
them; none has a ``dequantize``, so that each is unpacked as torchao's function for its scales does it.

``shape`` and ``block_size`` (1, group) lie in the header; scales and zero-points are [groups, out], turned.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import Codes, Floats, number, rounded, scaled, spread, unpack
from qfund.checkpoints.wild.packed.source import Source
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel

_FLOATS = ("F32", "BF16", "F16")
#: What the type of a weight in tiles ends in.
TILED = " in tiles"
#: Rows and columns of a tile: 8 × 16 of ``mma.m16n8k16``.
_TILE = 8, 16


def plain(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    """``Int4Tensor``: two of −8 … 7 a byte, the even column low; the zero-point is a number that is added, as the
    functions of ``torchao.prototype.gptq`` that make and undo such codes have it: in float32, cast to the scales' dtype
    at the end."""
    codes, scale, zero = (f"{prefix}{kind}" for kind in ("qdata", "scale", "zero_point"))
    rows, half = source.header(codes, ("I8", "U8"), (None, None)).shape
    columns, group, dtype = 2 * half, *_grid(source, name, scale, data, (rows, 2 * half))
    source.header(zero, _FLOATS, source.tensors[scale].shape)

    def decode(first: int, last: int) -> NDArray[np.float32]:
        above = number(unpack(source.array(codes)[first:last], 4, columns) ^ np.uint8(8))  # code + 8
        scales = _turned(source, scale, first, last)
        least = _turned(source, zero, first, last) - scales * np.float32(8)
        return rounded(above * spread(scales, columns, group) + spread(least, columns, group), dtype)

    return source.packed(name, (rows, columns), f"int4 g{group}", decode, parts)


def words(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    """``Int4PlainInt32Tensor`` of Intel's GPUs: eight of 0 … 15 a word, the lowest first, whole zero-points.

    Raises:
        UnsupportedModel: of Ascend's, which have zero-points in floats, and whose order nothing here can confirm.
    """
    codes, scale, zero = (f"{prefix}{kind}" for kind in ("qdata", "scale", "zero_point"))
    rows, eighth = source.header(codes, ("I32",), (None, None)).shape
    columns, group, dtype = 8 * eighth, *_grid(source, name, scale, data, (rows, 8 * eighth))
    if source.header(zero, ("I8", *_FLOATS), source.tensors[scale].shape).dtype != "I8":
        raise UnsupportedModel(
            f"{source.folder.name} is packed for Ascend's processors (torchao's Int4PlainInt32Tensor with zero-points "
            "in floats), whose order of codes no decoder here could confirm.",
            "Name the original checkpoint, or one that torchao packed as int4 on another device, or in intx.",
        )

    def decode(first: int, last: int) -> NDArray[np.float32]:
        some = unpack(source.array(codes)[first:last], 4, columns)
        return scaled(some, _turned(source, scale, first, last), _turned(source, zero, first, last), group, dtype)

    return source.packed(name, (rows, columns), f"int4 g{group}", decode, parts)


def tiles(source: Source, name: str, prefix: str, data: Mapping[str, Any], parts: tuple[str, ...]) -> PackedTensor:
    """``Int4TilePackedTo4dTensor`` of NVIDIA's GPUs: words [out / 8, in / (16 · inner), 32 lanes, inner / 2], padded.

    ``_dequantize_affine_tinygemm`` says what they stand for: (code − 8) · scale, + zero, each step in bfloat16 (the
    kernel itself rounds once for both). AMD's GPUs have 16 rows a tile under the same shape.

    Raises:
        UnsupportedModel: the config says tiles of 16 rows.
    """
    codes, pair = f"{prefix}qdata", f"{prefix}scale_and_zero"
    if "int4_tile_packed_ntile': 16" in str(source.settings):
        raise UnsupportedModel(
            f"{source.folder.name} is packed in tiles of 16 rows, for AMD's GPUs, which no decoder here could confirm.",
            "Name the original checkpoint, or one that torchao packed on an NVIDIA GPU, or in intx.",
        )
    down, across, _, half = source.header(codes, ("I32",), (None, None, 32, None)).shape
    wide = across * half * 2 * _TILE[1]
    said = data.get("shape")
    if not isinstance(said, list) or len(said) != 2 or not all(isinstance(size, int) and size > 0 for size in said):
        raise source.corrupt(name, f"is described with the shape {said!r}")
    (rows, columns), group = said, _group(source, name, data)
    if rows > _TILE[0] * down or columns > wide:
        raise source.corrupt(codes, f"holds fewer than {rows}×{columns} weights")
    if wide % group:
        raise source.corrupt(name, f"has {wide} columns, which groups of {group} do not fill")
    source.header(pair, ("BF16",), (wide // group, _TILE[0] * down, 2))

    def decode(first: int, last: int) -> NDArray[np.float32]:
        top, bottom = first // _TILE[0], -(-last // _TILE[0])
        whole = _untiled(source.array(codes)[top:bottom])
        some = whole[first - top * _TILE[0] : last - top * _TILE[0], :columns]
        both = number(source.array(pair)[:, first:last])
        values = rounded((number(some) - 8) * spread(both[..., 0].T, columns, group), "BF16")
        return rounded(values + spread(both[..., 1].T, columns, group), "BF16")

    return source.packed(name, (rows, columns), f"int4 g{group}{TILED}", decode, parts)


def _untiled(packed: NDArray[np.generic]) -> Codes:
    """[tiles down, tiles across, 32, words] → codes [rows, columns].

    Lane 4r + c of a tile has row r; nibble 4o + q of its word j has column 32j + 8q + 2c + o of those of the tile.
    """
    down, across, _, half = packed.shape
    nibbles = unpack(packed, 4, half * 8).reshape(down, across, 8, 4, half, 2, 4)
    return nibbles.transpose(0, 2, 1, 4, 6, 3, 5).reshape(8 * down, across * half * 32)


def _grid(source: Source, name: str, scale: str, data: Mapping[str, Any], shape: tuple[int, int]) -> tuple[int, str]:
    """Columns of a group, and the scales' dtype, which is that of the weight."""
    group = _group(source, name, data)
    if shape[1] % group:
        raise source.corrupt(name, f"has {shape[1]} columns, which groups of {group} do not fill")
    if data.get("shape") not in (None, list(shape)):
        raise source.corrupt(name, f"is described with the shape {data['shape']!r}")
    return group, source.header(scale, _FLOATS, (shape[1] // group, shape[0])).dtype


def _group(source: Source, name: str, data: Mapping[str, Any]) -> int:
    said = data.get("block_size")
    if not isinstance(said, list) or len(said) != 2 or said[0] != 1 or not isinstance(said[1], int) or said[1] < 1:
        raise source.corrupt(name, f"is described with blocks of {said!r}")
    return said[1]


def _turned(source: Source, part: str, first: int, last: int) -> Floats:
    """[groups, out] → [rows, groups] of these rows."""
    return np.ascontiguousarray(number(source.array(part)[:, first:last]).T)
