"""How often reading until it is decided decides wrongly: ``python -m benchmarks.race [TEXTS]``.

Texts are made as in ``benchmarks.coverage``: positions depend on one another, and in the second row of each kind so do
neighbouring chunks. The margin is the true damage itself, the hardest case, in which every verdict is wrong. It is
looked for when the chunks have grown by half, from 8 to ``MOST``, by the product's own intervals and widening
(``core.metrics``, ``request.simultaneous``). Printed are the shares of texts that are decided at some look (aim: at
most 5 %), what looking as often with plain 95 % intervals gives, and of one of twelve candidates.

``python -m benchmarks.race --text`` tells instead what is read, of the shipped model's own text, in twelve precisions:
by the race, by the same without leaving anybody open, and by somebody who is told at which chunk the plain 95 %
interval of each candidate alone decides for good, which no rule can know; from many starts. How many verdicts differ
from those of all tokens stands beside it.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import CASES, HARD, Case, positions, texts
from qfund.core.estimate import Estimate
from qfund.core.intervals import MIN_BLOCKS, MOST_BLOCKS, interval, scatter, widened
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.chunk_sums import ChunkSums
from qfund.core.metrics.positions import Positions, Texts
from qfund.core.metrics.statistics import Mean
from qfund.core.metrics.table import METRICS
from qfund.features.compare.measure.chance import LEAST_CHANCE, chance
from qfund.features.compare.request.decision import Finding, Margin
from qfund.features.compare.request.simultaneous import GROWTH, LOOKS, comparisons

Array = NDArray[np.float64]
MOST, LENGTH, CORRELATION = 256, 64, 0.7


def looks(most: int, together: int = 1) -> list[int]:
    """After how many chunks it is looked, of batches of so many together."""
    found, batches = [], math.ceil(MIN_BLOCKS / together)
    while batches * together <= most:
        found.append(batches * together)
        batches = math.ceil(GROWTH * batches)
    return found


def verdict(case: Case, values: Array, margin: float, candidates: int, honest: bool) -> tuple[str, int]:
    """``"above"`` or ``"below"`` the margin, or ``""``, and after how many chunks [chunks, positions]."""
    planned = looks(len(values))
    for look, chunks in enumerate(planned, 1):
        given: Positions = positions(case, values[:chunks])
        found = METRICS[case.metric].statistic.of(given, "", Texts(given))
        assert found.low is not None and found.high is not None
        among = comparisons(candidates, look if honest else 0, max(LOOKS, len(planned)))
        low, high = widened(found.value, found.low, found.high, found.blocks, among)
        if low > margin:
            return "above", chunks
        if high < margin:
            return "below", chunks
    return "", len(values)


def wrong(case: Case, count: int, drift: float, honest: bool = True, candidates: int = 1, seed: int = 1) -> float:
    """The share of ``count`` texts of which a verdict is told though the margin is the truth itself, so that there is
    none to tell: a damage that lies just beyond it, or just within, is judged wrongly at most as often."""
    made = texts(case, MOST, count, LENGTH, CORRELATION, seed, drift)
    return sum(bool(verdict(case, values, case.truth, candidates, honest)[0]) for values in made) / count


#: Read to this many chunks, those of 16,384 tokens, in batches of four.
WHOLE, TOGETHER = 64, 4
TWELVE = ("bf16", "fp16", "int8", "int8_g32", "int6", "int5", "int4", "int4_g64", "nf4", "fp8_e4m3", "int3", "int2")
#: What the margin asks of a text, as a mean that its damage follows from.
_ASKED = (("ln_perplexity_ratio", math.log1p(Margin().perplexity or 0)), ("top1_agreement", Margin().tokens or 0))


def findings(sums: ChunkSums, start: int, chunks: int, among: int) -> list[Finding]:
    """Of one candidate, from the chunk ``start`` on; the perplexity's as a logarithm."""
    part, found = slice(start, start + chunks), []
    summed = Positions(**{field: np.array(values) for field, values in sums.sums.items()})
    for name, margin in _ASKED:
        statistic = METRICS[name].statistic
        assert isinstance(statistic, Mean)
        values, counts = statistic.values(summed)[part], chunk_sums.counts(sums, statistic.field)[part]
        if statistic.share:
            values = counts - values
        seen = scatter(values, counts, np.zeros(chunks, dtype=np.int64), statistic.memory)
        low, high = interval(seen, statistic.share) or (-math.inf, math.inf)
        low, high = widened(seen.value, low, high, seen.blocks, among)
        state = "outside" if low > margin else "within" if high < margin else "inconclusive"
        unit = "share" if statistic.share else ""
        low, high = (max(low, 0.0), min(high, 1.0)) if unit else (low, high)
        found.append(Finding(name, Estimate(seen.value, None, 1, unit, low, high, seen.blocks), margin, None, state))
    return found


def state(found: Sequence[Finding]) -> str:
    states = {finding.state for finding in found}
    return next(name for name in ("outside", "inconclusive", "within") if name in states)


def race(sums: ChunkSums, start: int, candidates: int, leaves: bool = True) -> tuple[str, int]:
    """What is said of one candidate, and after how many chunks."""
    times = looks(WHOLE, TOGETHER)
    times += [WHOLE] * (times[-1] < WHOLE)
    for look, chunks in enumerate(times, 1):
        now, end = (comparisons(candidates, many, max(LOOKS, len(times))) for many in (look, len(times)))
        found = findings(sums, start, chunks, now)
        if (said := state(found)) != "inconclusive" or chunks == WHOLE:
            break
        if leaves and chance(found, chunks / WHOLE, now, end, MOST_BLOCKS) < LEAST_CHANCE:
            break
    return said, chunks


def told(sums: ChunkSums, start: int) -> tuple[str, int]:
    """The same by who knows from which chunk on the plain interval says what it says of all."""
    said = [state(findings(sums, start, chunks, 1)) for chunks in range(MIN_BLOCKS, WHOLE + 1)]
    other = [number for number, name in enumerate(said) if name != said[-1]]
    return said[-1], WHOLE if said[-1] == "inconclusive" else MIN_BLOCKS + (other[-1] + 1 if other else 0)


def of_the_text(measured: Mapping[str, ChunkSums]) -> None:
    """Print, by candidate and of all, the share of chunks that is read."""
    many = len(measured)
    starts = range(0, len(next(iter(measured.values())).positions) - WHOLE + 1, TOGETHER)
    whole = cache(lambda name, start: state(findings(measured[name], start, WHOLE, many)))
    ways: dict[str, Callable[[str, int], tuple[str, int]]] = {
        "race": lambda name, start: race(measured[name], start, many),
        "none open": lambda name, start: race(measured[name], start, many, False),
        "told": lambda name, start: told(measured[name], start),
    }
    print(f"{'':12}{'changed':>9}" + "".join(f"{way:>12}" for way in ways) + f"   chunks of {WHOLE}, from the first")
    every: dict[str, list[int]] = {way: [] for way in ways}
    differ, lost = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    for name, sums in measured.items():
        row = []
        for way, run in ways.items():
            found = {start: run(name, start) for start in starts}
            every[way] += [chunks for _, chunks in found.values()]
            for start, (said, _) in found.items():
                differ[way] += "inconclusive" not in (said, whole(name, start)) and said != whole(name, start)
                lost[way] += said == "inconclusive" != whole(name, start)
            row.append(f"{found[0][1]} {found[0][0][:2]}")
        changed = findings(sums, 0, WHOLE, many)[1].estimate.value
        print(f"{name:12}{changed:9.2%}" + "".join(f"{said:>12}" for said in row), flush=True)
    for label, shown in (
        ("from the first", {way: np.mean(found[:: len(starts)]) / WHOLE for way, found in every.items()}),
        (f"of {len(starts)} starts", {way: np.mean(found) / WHOLE for way, found in every.items()}),
    ):
        print(f"{label:21}" + "".join(f"{share:12.1%}" for share in shown.values()))
    for label, counted in (("contradict", differ), ("left undecided", lost)):
        print(f"{label:21}" + "".join(f"{count:12}" for count in counted.values()) + f"   of {many * len(starts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=int, nargs="?", default=2000)
    parser.add_argument("--text", action="store_true", help="measure on the shipped model's text")
    asked = parser.parse_args()
    if asked.text:
        from qfund.api import compare
        from qfund.checkpoints.catalog import EXAMPLE

        results = compare(EXAMPLE, TWELVE, max_tokens=65_536, without=("drift", "map", "noise")).results
        return of_the_text({result.precision: result.chunks for result in results if result.chunks})
    print(f"{asked.texts} texts of {MOST} chunks of {LENGTH}; looked at after 8, 12, 18 … chunks")
    print(f"{'':28} {'wrong':>7} {'plain':>7} {'of 12':>7}")
    for case in (*CASES, *HARD):
        for drift in (0.0, case.drift):
            found = (
                wrong(case, asked.texts, drift),
                wrong(case, asked.texts, drift, False),
                wrong(case, asked.texts, drift, True, 12),
            )
            print(
                f"{case.name + ', drift ' + str(drift):28} " + " ".join(f"{share:7.1%}" for share in found), flush=True
            )
    return None


if __name__ == "__main__":
    main()
