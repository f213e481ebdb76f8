"""How near a figure comes to what the hardware allows. Pure arithmetic.

Writing a token reads every weight and the whole cache once, so memory bandwidth bounds it; reading a prompt multiplies
every weight by every token, so the peak of matrix products does (S. Williams et al., "Roofline", CACM 52, 2009).
"""

from qfund.features.speed.request.speed import Bounds, Point, Run
from qfund.precisions.files import is_file, row_of


def step_bytes(run: Run, point: Point) -> int:
    """That one step of all sequences reads: weights once, and each sequence's cache."""
    return run.read_bytes + point.cache_bytes


def decode_share(bounds: Bounds, run: Run, point: Point) -> float:
    """Bytes that writing read in a second, over the bandwidth. Above 1 the processor's own caches hold the weights."""
    return point.decode.median / point.batch * step_bytes(run, point) / bounds.bandwidth


def prefill_share(bounds: Bounds, run: Run, point: Point) -> float | None:
    """Operations a second over the peak of the dtype that is computed in; None where that was not measured, and of
    a GGUF file, whose products llama.cpp makes of integers."""
    if is_file(run.precision):
        return None
    peak = bounds.peaks.get(row_of(run.precision).dtype)
    if not peak:
        return None
    return point.prefill.median / (point.batch * point.depth) * point.flops / peak
