"""How often reading until it is decided decides wrongly: ``python -m benchmarks.race [TEXTS]``.

Texts are made as in ``benchmarks.coverage``: positions depend on one another, and in the second row of each kind so do
neighbouring chunks. The margin is the true damage itself, the hardest case, in which every verdict is wrong. It is
looked for when the chunks have grown by half, from 8 to ``MOST``, by the product's own intervals and widening
(``core.metrics``, ``request.simultaneous``). Printed are the shares of texts that are decided at some look (aim: at
most 5 %), what looking as often with plain 95 % intervals gives, and of one of twelve candidates.
"""

import math
import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import CASES, HARD, Case, positions, texts
from qfund.core.intervals import MIN_BLOCKS, widened
from qfund.core.metrics.positions import Positions, Texts
from qfund.core.metrics.table import METRICS
from qfund.features.compare.request.simultaneous import GROWTH, comparisons

Array = NDArray[np.float64]
MOST, LENGTH, CORRELATION = 256, 64, 0.7


def verdict(case: Case, values: Array, margin: float, candidates: int, honest: bool) -> tuple[str, int]:
    """``"above"`` or ``"below"`` the margin, or ``""``, and after how many chunks [chunks, positions]."""
    look, chunks = 1, MIN_BLOCKS
    while chunks <= len(values):
        given: Positions = positions(case, values[:chunks])
        found = METRICS[case.metric].statistic.of(given, "", Texts(given))
        assert found.low is not None and found.high is not None
        among = comparisons(candidates, look if honest else 0)
        low, high = widened(found.value, found.low, found.high, found.blocks, among)
        if low > margin:
            return "above", chunks
        if high < margin:
            return "below", chunks
        look, chunks = look + 1, math.ceil(GROWTH * chunks)
    return "", len(values)


def wrong(case: Case, count: int, drift: float, honest: bool = True, candidates: int = 1, seed: int = 1) -> float:
    """The share of ``count`` texts of which a verdict is told though the margin is the truth itself, so that there is
    none to tell: a damage that lies just beyond it, or just within, is judged wrongly at most as often."""
    made = texts(case, MOST, count, LENGTH, CORRELATION, seed, drift)
    return sum(bool(verdict(case, values, case.truth, candidates, honest)[0]) for values in made) / count


def main(count: int) -> None:
    print(f"{count} texts of {MOST} chunks of {LENGTH}; looked at after 8, 12, 18 … chunks")
    print(f"{'':28} {'wrong':>7} {'plain':>7} {'of 12':>7}")
    for case in (*CASES, *HARD):
        for drift in (0.0, case.drift):
            found = wrong(case, count, drift), wrong(case, count, drift, False), wrong(case, count, drift, True, 12)
            print(f"{case.name + ', drift ' + str(drift):28} " + " ".join(f"{share:7.1%}" for share in found))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
