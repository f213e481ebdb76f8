"""bitsandbytes: four bits by a code book of 16 numbers (NF4, FP4) in blocks, whose scales may be codes of eight bits
again; and eight bits with one scale a row (``SCB``).

A 4-bit weight is one row of blocks, whatever its shape: the first code of a byte in its high half. It is the book's
number × the block's largest, in float32, cast to the dtype that the state names. An 8-bit weight is code × SCB ×
(1/127) in float32.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.headers import shortened
from qfund.checkpoints.wild.packed.arithmetic import NAMED, Floats, number, rounded
from qfund.checkpoints.wild.packed.source import Source
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel

_STATE = ".quant_state.bitsandbytes__"
_INVERSE = np.float32(7.874015718698502e-3)


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: a state or scales are missing or malformed, or shapes do not belong together.
        UnsupportedModel: int8 shuffled for a GPU.
    """
    for name, stored in source.tensors.items():
        if _STATE in name:
            yield _four(source, name.partition(_STATE)[0], name)
        elif name.endswith(".SCB"):
            yield _eight(source, name.removesuffix(".SCB"))
        elif stored.dtype == "U8" and name.endswith(".weight") and not _has_state(source, name):
            raise source.corrupt(name, "is stored without the state that says what its codes are")


def inputs(source: Source) -> str | None:
    """8-bit kernels round inputs too; those of four bits do not."""
    return "int8, one scale a token" if source.settings.get("load_in_8bit") else None


def _has_state(source: Source, name: str) -> bool:
    return any(f"{name}{_STATE}{kind}" in source.tensors for kind in ("nf4", "fp4"))


def _state(source: Source, name: str) -> Mapping[str, Any]:
    source.header(name, ("U8",), (None,))
    try:
        found = json.loads(source.array(name).tobytes())
    except (ValueError, RecursionError) as error:
        raise source.corrupt(name, "is no JSON") from error
    if not isinstance(found, dict):
        raise source.corrupt(name, "is no JSON object")
    shape, block = found.get("shape"), found.get("blocksize")
    if not isinstance(shape, list) or not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise source.corrupt(name, f"gives the shape {shape!r}")
    if not isinstance(block, int) or block <= 0:
        raise source.corrupt(name, f"gives blocks of {block!r}")
    if found.get("dtype") not in NAMED:
        raise source.corrupt(name, f"gives the dtype {found.get('dtype')!r}")
    return found


def _four(source: Source, weight: str, state_name: str) -> PackedTensor:
    state = _state(source, state_name)
    shape, block, dtype = tuple(state["shape"]), state["blocksize"], NAMED[state["dtype"]]
    count = int(np.prod(shape))
    stored = source.tensors.get(weight) or source.header(weight, ("U8",))
    if stored.bytes != -(-count // 2):
        raise source.corrupt(weight, f"has {stored.bytes} bytes for {count} codes of four bits")
    absmax, book = f"{weight}.absmax", f"{weight}.quant_map"
    blocks = -(-count // block)
    source.header(book, ("F32",), (16,))
    nested = f"{weight}.nested_absmax" in source.tensors
    source.header(absmax, ("U8",) if nested else ("F32", "F16", "BF16"), (blocks,))
    if nested:
        outer = state.get("nested_blocksize")
        if not isinstance(outer, int) or outer <= 0 or not isinstance(state.get("nested_offset"), int | float):
            raise source.corrupt(state_name, "does not say how its scales are packed")
        source.header(f"{weight}.nested_quant_map", ("F32",), (256,))
        source.header(f"{weight}.nested_absmax", ("F32",), (-(-blocks // outer),))
    columns = int(np.prod(shape[1:]))

    def scales(first: int, last: int) -> Floats:
        """Of these blocks."""
        codes = source.array(absmax)[first:last]
        if not nested:
            return number(codes)
        values = number(source.array(f"{weight}.nested_quant_map"))[codes.astype(np.int64)]
        outer = np.arange(first, last) // state["nested_blocksize"]
        values *= number(source.array(f"{weight}.nested_absmax"))[outer]
        values += np.float32(state["nested_offset"])
        return values

    def decode(first: int, last: int) -> NDArray[np.float32]:
        begin, end = first * columns, last * columns
        start, stop = begin // block, -(-end // block)
        packed = source.array(weight).reshape(-1).view(np.uint8)[start * block // 2 : -(-min(stop * block, count) // 2)]
        numbers = number(source.array(book))
        every = np.arange(256)
        # A byte is two numbers, taken from a table at once.
        both = np.ascontiguousarray(np.stack([numbers[every >> 4], numbers[every & 15]], 1)).view(np.float64)[:, 0]
        values = np.take(both, packed).view(np.float32)
        values = values[start * block % 2 :][: min(stop * block, count) - start * block]
        whole = values.size // block * block
        each = scales(start, stop)
        values[:whole].reshape(-1, block)[:] *= each[: whole // block, None]
        values[whole:] *= each[-1]
        found = values[begin - start * block :][: end - begin]
        return rounded(found, dtype).reshape(last - first, *shape[1:])

    kinds = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
    parts = (weight, *(f"{weight}.{kind}" for kind in kinds if f"{weight}.{kind}" in source.tensors), state_name)
    type_ = f"{state_name.partition(_STATE)[2]} g{block}{' double-quantised' if nested else ''}"
    return source.packed(weight, shape, type_, decode, parts)


def _eight(source: Source, module: str) -> PackedTensor:
    weight, scale, layout = f"{module}.weight", f"{module}.SCB", f"{module}.weight_format"
    rows, columns = source.header(weight, ("I8",), (None, None)).shape
    if source.header(scale, ("F32", "F16", "BF16")).elements != rows:
        raise source.corrupt(scale, f"has other than {rows} scales")
    if layout in source.tensors and source.tensors[layout].elements == 1 and int(source.array(layout).reshape(-1)[0]):
        raise UnsupportedModel(
            f"{source.folder.name} holds {shortened(weight)} shuffled for one generation of GPUs.",
            "Save it again with bitsandbytes 0.45 or later, which keeps rows as they are.",
        )

    def decode(first: int, last: int) -> NDArray[np.float32]:
        scales = number(source.array(scale).reshape(-1)[first:last])
        return number(source.array(weight)[first:last]) * scales[:, None] * _INVERSE

    parts = (weight, scale, *((layout,) if layout in source.tensors else ()))
    return source.packed(weight, (rows, columns), "int8 per channel", decode, parts)
