"""What several precisions hold of a unit, made from one reading of its weights, of which a few are in memory at once.

A weight that the model holds as it is stored comes by some of its rows at a time, on all cores: each piece goes into
every precision while it is in a core's cache, and there is never more of the checkpoint in memory than these pieces.
Others (layers that are joined or taken apart, experts stored one by one) are made by transformers, set by set.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from qfund.core.errors import CorruptCheckpoint
from qfund.precisions.quantizers import pieces
from qfund.precisions.quantizers.plan import CONVOLUTION, LINEAR, View
from qfund.precisions.quantizers.quantizer import Quantizer
from qfund.stream.filling.making import Making
from qfund.stream.filling.rows import Coded, fill
from qfund.stream.frame import Frame, Slot
from qfund.stream.quantized import Quantized
from qfund.stream.source import Source
from qfund.stream.units import Unit

#: By frame, what it holds by the names of its slots.
Filled = dict[Frame, dict[str, Tensor]]
#: Bytes of small tensors that transformers is given at once: each call of it costs milliseconds.
_SET = 8 * 1024**2


def made(source: Source, unit: Unit, frames: Sequence[Frame], quantized: Quantized, mapped: bool = False) -> Filled:
    """What these frames of the source's hold of a unit. Those of one precision share it, and casts to the same dtype
    share what they cast. ``mapped``: what they may hold where it lies in its file is held there. It is read all the
    same, piece by piece: a disk is waited for here and not in a product, and a file that was cut is told.

    Raises:
        CorruptCheckpoint: a tensor is missing or of another shape, or a value that is quantised is not finite.
        ModelNotFound: a file cannot be read any more.
    """
    reader, each = source.reader, dict[str, Making]()
    for frame in frames:
        if frame.row.name not in each:
            each[frame.row.name] = Making(frame, unit, quantized)
    makings = list(each.values())
    single, sets = _parts(source, unit)
    for key, slots in single.items():
        _single(source, key, slots, makings, mapped)
    for keys in sets:
        raw = reader.read_all(keys)
        for dtype in dict.fromkeys(making.frame.row.dtype for making in makings):
            base = reader.load(source.loaders[dtype], unit, raw)
            for making in makings:
                if making.frame.row.dtype == dtype:
                    making.take(base)
            del base
        del raw
    for making in makings:
        making.done()
        for slot in making.frame.slots(unit):
            if slot.name not in making.held:
                raise reader.missing(slot.name)
    return {frame: each[frame.row.name].held for frame in frames}


def transient(source: Source, unit: Unit, frames: Iterable[Frame]) -> int:
    """Bytes that are needed at most beside what these frames hold of a unit in the end, while that is made."""
    reader, frames = source.reader, list(frames)
    single, sets = _parts(source, unit)
    coders = [_coders(frame, unit) for frame in frames]
    widest = max(getattr(torch, frame.row.dtype).itemsize for frame in frames)
    most = 0
    for key, slots in single.items():
        if any(slot.name in frame.mapped for frame in frames for slot in slots):  # of which one is there at a time
            most = max(most, reader.size([key]))
        chosen = [found for coder in coders for slot in slots if (found := coder.get(slot.name))]
        if not _step(source, key, slots[0], chosen):
            most = max(most, reader.size([key]) + (widest * slots[0].empty.numel() if chosen else 0))
    for keys in sets:
        most = max(most, reader.size(keys) + widest * sum(reader.shape(key).numel() for key in keys))
    return most


def _parts(source: Source, unit: Unit) -> tuple[dict[str, list[Slot]], list[list[str]]]:
    """A unit's tensors: those that are one weight each as they are, with its places, and the others, in such sets as
    are made together."""
    reader, single = source.reader, dict[str, list[Slot]]()
    for slot in source.any.slots(unit):
        if (key := reader.plain(slot)) is not None:
            single.setdefault(key, []).append(slot)
    sets: list[list[str]] = []
    for keys in reader.together(key for key in reader.keys(source.any, unit) if key not in single):
        if sets and reader.size([*sets[-1], *keys]) <= _SET:
            sets[-1] += keys
        else:
            sets.append(keys)
    return single, sets


def _coders(frame: Frame, unit: Unit) -> dict[str, tuple[View, Quantizer]]:
    """How each weight of the unit that is quantised is read as a matrix, and by what it is quantised."""
    if frame.conversion is None:
        return {}
    chosen = frame.conversion.quantizers
    return {places[0].name: (places[0].view, chosen[name]) for name, places in frame.quantized(unit).items()}


def _step(source: Source, key: str, slot: Slot, coders: Iterable[tuple[View, Quantizer]]) -> int:
    """How many rows of a tensor are read at a time; 0 where it is read whole: it is small, lies otherwise, or something
    looks at all of it before it quantises a part."""
    shape = slot.empty.shape
    if len(shape) < 2 or slot.empty.numel() <= pieces.PIECE or not source.reader.by_rows(key):
        return 0
    for view, quantizer in coders:
        matrix = view.shape(shape)
        # Of stacked experts a row is one of them, where they have a dimension of their own.
        if not (view in (LINEAR, CONVOLUTION) or len(shape) == 3) or not quantizer.by_rows(matrix[1]):
            return 0
        layouts = quantizer.layout(matrix, slot.empty.dtype).values()
        if any(not layout.shape or layout.shape[0] % shape[0] for layout in layouts):
            return 0
    return max(1, pieces.PIECE * shape[0] // slot.empty.numel())


def _single(source: Source, key: str, slots: Sequence[Slot], makings: Iterable[Making], mapped: bool) -> None:
    """Let all who hold a weight, or codes of it, have it."""
    reader, names = source.reader, [slot.name for slot in slots]
    held, coded = dict[torch.dtype, list[Making]](), list[tuple[torch.dtype, str, Making]]()
    for making in makings:
        dtype = source.loaders[making.frame.row.dtype].every_slot[names[0]].empty.dtype
        if making.holds(names):
            held.setdefault(dtype, []).append(making)
        if (name := making.coded(names)) is not None:
            coded.append((dtype, name, making))
    if not held and not coded:
        return
    own = reader.dtype(key)
    there = [making for making in held.get(own, ()) if mapped and not making.frame.mapped.isdisjoint(names)]
    if there and (view := reader.mapped(key)) is not None:
        for making in there:
            making.take_as_it_is(dict.fromkeys(names, view))
        held[own] = [making for making in held[own] if making not in there]
        held = {dtype: those for dtype, those in held.items() if those}
    coders = [(making.wanted[name][1][0].view, making.wanted[name][2]) for _, name, making in coded]
    if step := _step(source, key, slots[0], coders):
        codes = [
            Coded(making.wanted[name][0], dtype, view, quantizer, slots[0].empty.shape)
            for (dtype, name, making), (view, quantizer) in zip(coded, coders, strict=True)
        ]
        try:
            casts = fill(reader, key, step, held, codes)
        except CorruptCheckpoint:
            pass  # once more as a whole, which says all that is wrong
        else:
            for dtype, those in held.items():
                for making in those:
                    making.take_as_it_is(dict.fromkeys(names, casts[dtype]))
            for (_, name, making), code in zip(coded, codes, strict=True):
                making.put(name, code.stored, code.clipped)
            return
    raw = reader.read_all([key])[key]
    bases: Mapping[torch.dtype, Tensor] = {dtype: raw.to(dtype) for dtype in {*held, *(row[0] for row in coded)}}
    for dtype, base in bases.items():
        for making in makings:
            if making in held.get(dtype, ()) or any(row[0] == dtype and row[2] is making for row in coded):
                making.take(dict.fromkeys(names, base))
