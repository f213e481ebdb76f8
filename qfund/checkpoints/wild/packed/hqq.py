"""HQQ as transformers saves it: ``W_q``, ``scale``, ``zero`` and a tensor for each setting, for each linear layer.

The weight is cut into groups, [groups, group] for axis 1 and [group, groups] for axis 0, and the codes of rows far
apart share a byte: of four bits, row i is the high half of byte i and row i + n/2 the low one. A weight is
(code − zero) × scale, each step in the compute dtype, as HQQ's ``dequantize`` does it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import NAMED, Codes, number, rounded
from qfund.checkpoints.wild.packed.source import Source, groups_text
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel

_FLOATS = ("F16", "BF16", "F32")


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: companions are missing, or shapes do not belong together.
        UnsupportedModel: scales that are quantised again.
    """
    for name in source.tensors:
        if name.endswith(".W_q"):
            yield _weight(source, name.removesuffix(".W_q"))


def _weight(source: Source, module: str) -> PackedTensor:
    def whole(kind: str) -> int:
        header = source.header(f"{module}.{kind}", ("I32", "I64", "U8", "I16", "I8"))
        if header.elements != 1:
            raise source.corrupt(f"{module}.{kind}", "is not one number")
        return int(source.array(f"{module}.{kind}").reshape(-1)[0])

    codes, scale, zero = (f"{module}.{kind}" for kind in ("W_q", "scale", "zero"))
    if f"{module}.zero_q" in source.tensors or f"{module}.scale_q" in source.tensors:
        raise UnsupportedModel(
            f"{module} of {source.folder.name} has scales that HQQ quantised again.", "Name a checkpoint without that."
        )
    bits, axis = whole("nbits"), whole("axis") if f"{module}.axis" in source.tensors else 1
    source.header(f"{module}.shape", ("I64", "I32"), (2,))
    rows, columns = (int(size) for size in source.array(f"{module}.shape"))
    if bits not in (1, 2, 3, 4, 8) or axis not in (0, 1) or not 0 < rows < 2**31 or not 0 < columns < 2**31:
        raise source.corrupt(module, f"is said to be {rows}×{columns} weights of {bits} bits along axis {axis}")
    stored = source.header(scale, _FLOATS)
    source.header(zero, (*_FLOATS, "U8", "I8"))
    if source.tensors[zero].elements != stored.elements or not stored.elements:
        raise source.corrupt(zero, "has other numbers of values than the scales")
    groups = stored.elements
    if rows * columns % groups:
        raise source.corrupt(scale, f"has {groups} values for {rows}×{columns} weights")
    group = rows * columns // groups
    lines = (groups, group) if axis else (group, groups)
    dense = source.header(codes, ("U8", "I32", "F16", "BF16", "F32"), (None, None))
    unit = 4 if bits == 3 else 1
    fields = 10 if bits == 3 else 8 // bits
    if dense.bytes != -(-lines[0] // fields) * lines[1] * unit:
        raise source.corrupt(codes, f"has {dense.bytes} bytes for {lines[0]}×{lines[1]} codes of {bits} bits")
    dtype = _compute_dtype(source, module, stored.dtype)

    def decode(first: int, last: int) -> NDArray[np.float32]:
        stored = source.array(codes).reshape(-1)
        packed = (stored.view(np.uint32) if bits == 3 else stored.view(np.uint8)).reshape(-1, lines[1])
        shape = (groups, 1) if axis else (1, groups)
        scales, zeros = (rounded(number(source.array(part)).reshape(shape), dtype) for part in (scale, zero))
        start, stop = 0, lines[0]
        if axis:
            start, stop = first * columns // group, -(-last * columns // group)
            scales, zeros = scales[start:stop], zeros[start:stop]
        values = number(_rows(packed, bits, fields, start, stop))
        values = rounded(rounded(values - zeros, dtype) * scales, dtype).reshape(-1)
        skipped = first * columns - start * group if axis else first * columns
        return values[skipped : skipped + (last - first) * columns].reshape(last - first, columns)

    settings = (part for part in source.tensors if part.startswith(f"{module}.") and part != f"{module}.bias")
    type_ = f"int{bits}{groups_text(group, columns) if axis else f' g{group} by column'}"
    found = source.packed(f"{module}.weight", (rows, columns), type_, decode, tuple(settings))
    return replace(found, by_rows=axis == 1)


def _rows(packed: NDArray[np.uint32] | NDArray[np.uint8], bits: int, fields: int, start: int, stop: int) -> Codes:
    """Codes of the rows from ``start`` to ``stop``: row i is in line i mod n, in its field i / n, the first the
    highest."""
    found = np.empty((stop - start, packed.shape[1]), np.uint8)
    count, row = len(packed), start
    while row < stop:
        field, line = divmod(row, count)
        last = min(stop, (field + 1) * count)
        some = packed[line : line + last - row] >> packed.dtype.type((fields - 1 - field) * bits)
        found[row - start : last - start] = some & packed.dtype.type(2**bits - 1)
        row = last
    return found


def _compute_dtype(source: Source, module: str, otherwise: str) -> str:
    name = f"{module}.compute_dtype"
    if name not in source.tensors or source.tensors[name].dtype != "U8":
        return otherwise
    text = source.array(name).tobytes().decode("latin-1").removeprefix("torch.")
    if text not in NAMED:
        raise source.corrupt(name, f"says {text[:40]!r}")
    return NAMED[text]
