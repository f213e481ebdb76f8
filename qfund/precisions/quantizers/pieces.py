"""A weight quantised, and back, in pieces: temporaries are of a piece and not of the weight."""

import functools
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from qfund.core.errors import CorruptCheckpoint
from qfund.precisions.quantizers.plan import LINEAR, View
from qfund.precisions.quantizers.quantizer import Quantizer, Shape

#: Weights of one piece: its temporaries stay in a core's cache.
PIECE = 256 * 1024
#: Weights that are decoded at once, which torch spreads over the cores.
_DECODED = 512 * 1024


def quantize(name: str, tensor: Tensor, view: View, quantizer: Quantizer) -> tuple[dict[str, Tensor], int]:
    """What ``at_once`` gives, in pieces of some rows where a quantiser takes each row by itself; a device
    with memory of its own takes a weight at once.

    Raises:
        CorruptCheckpoint: a value is NaN or infinite, which no scale can hold.
    """
    matrix = view.flat(tensor.detach())
    rows, columns = matrix.shape
    step = max(1, PIECE // max(1, columns))
    if step >= rows or tensor.device.type != "cpu" or not quantizer.by_rows(columns):
        return at_once(name, tensor, view, quantizer)

    def piece(start: int) -> tuple[dict[str, Tensor], int]:
        return at_once(name, matrix[start : start + step], LINEAR, quantizer)

    try:
        pieces = list(pool().map(piece, range(0, rows, step)))
    except CorruptCheckpoint:
        at_once(name, tensor, view, quantizer)  # raises it with all that is wrong
        raise
    joined = {key: torch.cat([stored[key] for stored, _ in pieces]) for key in pieces[0][0]}
    return joined, sum(clipped for _, clipped in pieces)


def dequantize(quantizer: Quantizer, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
    """What the quantiser's own ``dequantize`` gives, bit for bit, some rows after the others where it takes each by
    itself: a forward then has no temporaries of a weight's size beside the weight."""
    rows, columns = shape
    step = max(1, _DECODED // max(1, columns))
    if step >= rows or not quantizer.by_rows(columns) or not all(_in_rows(held, rows) for held in stored.values()):
        return quantizer.dequantize(stored, shape, dtype)
    found = torch.empty(shape, dtype=dtype)
    for start in range(0, rows, step):
        end = min(start + step, rows)
        part = {key: held[start * len(held) // rows : end * len(held) // rows] for key, held in stored.items()}
        found[start:end] = quantizer.dequantize(part, (end - start, columns), dtype)
    return found


def _in_rows(stored: Tensor, rows: int) -> bool:
    return stored.device.type == "cpu" and stored.dim() > 0 and len(stored) % rows == 0


@torch.no_grad()
def at_once(name: str, parameter: Tensor, view: View, quantizer: Quantizer) -> tuple[dict[str, Tensor], int]:
    """What is stored of the weight ``name``, and how many of its values were clipped.

    Raises:
        CorruptCheckpoint: a value is NaN or infinite, which no scale can hold.
    """
    matrix = view.flat(parameter.detach())
    # An extreme is NaN where any value is: one pass, where ``isfinite`` takes several.
    if matrix.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(matrix)):
        count = int((~matrix.isfinite()).sum())
        raise CorruptCheckpoint(
            f"{count:,} of the {matrix.numel():,} values of {name} are NaN or infinite: no scale can hold them.",
            "Check the checkpoint, or compare float casts only.",
        )
    stored = {key: tensor.contiguous() for key, tensor in quantizer.quantize(matrix).items()}
    return stored, quantizer.saturated(matrix, stored)


@functools.cache
def pool() -> Executor:
    """A thread a core, each of which computes by itself."""
    threads = torch.get_num_threads()
    together = Barrier(threads)

    def alone() -> None:
        torch.set_num_threads(1)
        together.wait()

    made = ThreadPoolExecutor(threads, "quantise")
    for started in [made.submit(alone) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)  # for this thread, and for libraries that know one number only
    return made
