"""Weights and cache under one budget, in sentences."""

from collections.abc import Sequence

from qfund.core.units import bytes_text, number_text
from qfund.drawing.phrases import label
from qfund.features.compare.request.together import Pair, least
from qfund.features.memory.request.fits import Workload


def sentence(found: Sequence[Pair], workload: Workload, place: str) -> str:
    """Which pair fits and costs least; or how much the smallest lacks."""
    at = f"{workload.batch:,} × {workload.context:,} tokens"
    best = least(found)
    if best is None:
        small = min(found, key=lambda pair: pair.total, default=None)
        if small is None:
            return "Nothing is known of what these pairs take."
        lacks = bytes_text(small.total - workload.budget)
        return f"No pair of weights and cache fits {place} with {at}: {label(small.candidate)} lacks {lacks}."
    return (
        f"One budget for weights and cache, {place} ({bytes_text(workload.budget)}) with {at}: "
        f"{label(best.candidate)} fits and costs least, {kl_text(best)}: {bytes_text(best.weights)} of weights and "
        f"{bytes_text(best.cache)} of cache, {bytes_text(best.total)} with all that running takes."
    )


def kl_text(pair: Pair) -> str:
    return "the reference itself" if pair.kl is None else f"KL {number_text(pair.kl.value)} nat"
