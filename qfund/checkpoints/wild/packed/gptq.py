"""GPTQ's layout, which AutoRound writes too: ``qweight``, ``qzeros``, ``scales`` and ``g_idx`` for each linear layer.

``qweight`` [in·bits/32, out] is one stream of bits down each column, ``qzeros`` [groups, out·bits/32] one along each
row; ``scales`` [groups, out]; ``g_idx`` [in] is each input's group. A weight is scale × (code − zero-point), multiplied
in the scales' dtype. Version 1 stores each zero-point less one; version 2 as it is.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints.wild.packed.arithmetic import Codes, number, scaled, unpack, words
from qfund.checkpoints.wild.packed.source import Source, groups_text
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel

_FLOATS = ("F16", "BF16", "F32")
#: What GPTQModel adds to words of zero-points of version 1, which it has subtracted before; of three bits by word.
_OFFSETS = {
    2: (0x55555555,),
    3: (0x24924924, 0x92492492, 0x49249249),
    4: (0x11111111,),
    8: (0x01010101,),
}


def tensors(source: Source) -> Iterator[PackedTensor]:
    """
    Raises:
        CorruptCheckpoint: companions are missing, or shapes do not belong together.
        UnsupportedModel: another layout than GPTQ's own.
    """
    version = _version(source)
    for name in source.tensors:
        if name.endswith(".qweight"):
            yield _weight(source, name.removesuffix(".qweight"), version)


def _version(source: Source) -> int:
    given = source.settings
    said = str(given.get("checkpoint_format") or given.get("packing_format") or "gptq").lower()
    if given.get("is_marlin_format"):
        said = "marlin"
    if said in ("gptq", "auto_gptq", "auto_round:auto_gptq", "auto_round:gptq", "auto_round"):
        return 1
    if said in ("gptq_v2", "auto_round:gptq_v2"):
        return 2
    raise UnsupportedModel(
        f"{source.folder.name} is in the GPTQ layout {said!r}, which is shuffled for one kernel; gptq and gptq_v2 are "
        "read.",
        "Name the checkpoint in the layout gptq, or save it so with GPTQModel.",
    )


def _weight(source: Source, module: str, version: int) -> PackedTensor:
    def part(kind: str) -> str:
        return f"{module}.{kind}"

    packed = source.header(part("qweight"), ("I32", "U32"), (None, None))
    lines, columns = packed.shape
    scales = source.header(part("scales"), _FLOATS, (None, columns))
    groups = scales.shape[0]
    order = source.tensors.get(part("g_idx"))
    bits, inputs = _bits_and_inputs(source, module, lines, columns, order.shape if order else None, groups)
    source.header(part("qzeros"), ("I32", "U32"), (groups, words(columns, bits)))
    given = int(source.settings.get("group_size") or -1)
    group = given if given > 0 and -(-inputs // given) == groups else -(-inputs // groups)
    if order is None:
        if source.settings.get("desc_act") and not source.settings.get("static_groups") and groups > 1:
            raise CorruptCheckpoint(
                f"{source.folder.name} orders columns by activation, and lacks {part('g_idx')}, which says how.",
                "Download the checkpoint again.",
            )
        if -(-inputs // group) != groups:
            raise source.corrupt(part("scales"), f"has {groups} groups for {inputs} inputs")
    else:
        source.header(part("g_idx"), ("I32", "I64"), (inputs,))

    def decode(first: int, last: int) -> NDArray[np.float32]:
        codes = unpack(source.array(part("qweight"))[:, first:last].T, bits, inputs)
        scale = number(source.array(part("scales"))[:, first:last].T)
        begin, end = first // 32, -(-last // 32)  # of columns whose zero-points fill words
        stored = source.array(part("qzeros"))[:, begin * bits : end * bits]
        zeros = number(_zeros(source, stored, bits, min(columns, 32 * end) - 32 * begin, version).T)
        zeros = zeros[first - 32 * begin : last - 32 * begin]
        width = group
        if order is not None:
            which = source.array(part("g_idx")).astype(np.int64)
            if which.size and not (-groups <= which.min() and which.max() < groups):
                raise source.corrupt(part("g_idx"), f"names group {which.max()} of {groups}")
            if not np.array_equal(which, np.arange(inputs) // group):
                scale, zeros, width = scale[:, which], zeros[:, which], 1
        return scaled(codes, scale, zeros, width, scales.dtype)

    ordered = " act-order" if source.settings.get("desc_act") else ""
    parts = [part(kind) for kind in ("qweight", "qzeros", "scales")] + ([part("g_idx")] if order else [])
    type_ = f"int{bits}{groups_text(group, inputs, given)}{ordered}"
    return source.packed(part("weight"), (columns, inputs), type_, decode, tuple(parts))


def _bits_and_inputs(
    source: Source, module: str, lines: int, columns: int, order: tuple[int, ...] | None, groups: int
) -> tuple[int, int]:
    """How wide the codes are, and how many inputs: ``g_idx`` counts those; else the config says the width."""
    said = source.settings.get("bits")
    if order is not None and len(order) == 1 and order[0]:
        inputs = order[0]
        if isinstance(said, int) and 1 <= said <= 8 and words(inputs, said) == lines:
            return said, inputs
        bits = lines * 32 // inputs  # a layer with settings of its own
        if not 1 <= bits <= 8 or words(inputs, bits) != lines:
            raise source.corrupt(f"{module}.qweight", f"has {lines} rows of words for {inputs} inputs")
        return bits, inputs
    if not isinstance(said, int) or not 1 <= said <= 8:
        raise source.corrupt(f"{module}.qweight", f"has codes of {said!r} bits, says config.json; 1 to 8 are read")
    inputs = lines * 32 // said
    if words(inputs, said) != lines or not groups:
        raise source.corrupt(f"{module}.qweight", f"has {lines} rows of words, which no codes of {said} bits fill")
    return said, inputs


def _zeros(source: Source, packed: NDArray[np.generic], bits: int, columns: int, version: int) -> Codes:
    """Zero-points [groups, out].

    Version 1 is stored less one. GPTQModel subtracts and adds whole words, so that a zero-point of 0 borrows from its
    neighbour and gets it back; AutoGPTQ adds one to each and keeps the lowest bits. Who wrote a file says which.
    """
    if version == 2:
        return unpack(packed, bits, columns)
    meta = source.settings.get("meta")
    makers = meta.get("quantizer") if isinstance(meta, dict) else None
    if "gptqmodel" in str(makers).lower() and bits in _OFFSETS:
        offsets = np.array(_OFFSETS[bits], np.uint32)
        added = packed.view(np.uint32) + np.resize(offsets, packed.shape[-1])
        return unpack(added.astype(np.uint32), bits, columns)
    return (unpack(packed, bits, columns) + np.uint8(1)) & np.uint8(2**bits - 1)
