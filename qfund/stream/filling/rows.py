"""A weight that goes into several precisions some rows at a time, on all cores."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qfund.precisions.quantizers import pieces
from qfund.precisions.quantizers.plan import LINEAR, View
from qfund.precisions.quantizers.quantizer import Quantizer
from qfund.stream.ahead import waiting
from qfund.stream.reader import Reader


@dataclass
class Coded:
    """The codes of a weight that are filled row by row.

    Attributes:
        dtype: of the base that is quantised.
        stored: what the quantiser stores.
        clipped: how many values were.
    """

    name: str
    dtype: torch.dtype
    view: View
    quantizer: Quantizer
    shape: torch.Size
    stored: dict[str, Tensor] = field(default_factory=dict)
    clipped: int = 0

    def __post_init__(self) -> None:
        layouts = self.quantizer.layout(self.view.shape(self.shape), self.dtype)
        self.stored = {part: torch.empty(layout.shape, dtype=layout.dtype) for part, layout in layouts.items()}

    def put(self, first: int, last: int, stored: dict[str, Tensor]) -> None:
        """What is stored of these rows of the weight; one of them may be several rows of the matrix."""
        for part, rows in stored.items():
            whole = self.stored[part]
            each = len(whole) // self.shape[0]
            whole[first * each : last * each] = rows


def fill(
    reader: Reader, key: str, step: int, dtypes: Iterable[torch.dtype], codes: Sequence[Coded]
) -> dict[torch.dtype, Tensor]:
    """A tensor of the checkpoint, read ``step`` rows at a time, in each of these dtypes, and in these codes.

    Raises:
        CorruptCheckpoint: a value that is quantised is not finite.
        ModelNotFound: the file cannot be read any more.
    """
    own, casts = reader.dtype(key), dict[torch.dtype, Tensor]()
    shape = reader.shape(key)
    for dtype in dtypes:
        casts[dtype] = reader.room(key) if dtype == own else torch.empty(shape, dtype=dtype)
    # One row may be a whole expert: then all cores work at one after the other.
    alone = shape[1:].numel() > pieces.PIECE
    quantize = pieces.quantize if alone else pieces.at_once

    def piece(first: int) -> tuple[int, float, list[int]]:
        with torch.inference_mode():
            last = min(first + step, shape[0])
            rows = casts[own][first:last] if own in casts else torch.empty((last - first, *shape[1:]), dtype=own)
            with waiting() as waited:
                read = reader.some(key, first, last, rows)
            bases = {own: rows}
            for dtype, whole in casts.items():
                if dtype != own:
                    bases[dtype] = whole[first:last].copy_(rows)
            clipped = []
            for code in codes:
                if code.dtype not in bases:
                    bases[code.dtype] = rows.to(code.dtype)
                stored, count = quantize(code.name, code.view.flat(bases[code.dtype]), LINEAR, code.quantizer)
                code.put(first, last, stored)
                clipped.append(count)
            return read, waited[0], clipped

    each: Callable[..., Iterable[tuple[int, float, list[int]]]] = map if alone else pieces.pool().map
    threads = 1 if alone else torch.get_num_threads()
    for read, waited_for, clipped in each(piece, range(0, shape[0], step)):
        reader.bytes_read += read
        reader.waited += waited_for / threads
        for code, count in zip(codes, clipped, strict=True):
            code.clipped += count
    return casts
