"""Recipes beside uniform precisions:  python -m benchmarks.recipes [MODEL] [SEARCHES]

Single swaps, gradients and modules' own errors of all rows are measured once on each of a few texts; random sets of
rows, budgets, groups of modules, texts and scores make as many recipes from them. One walk a text measures these on
text that was not searched, beside every uniform precision, and one more on a third text. Printed are what recipes
gain by budget, how many are measurably worse than the best uniform precision of no more bytes, how well the cheap
ways rank modules, whether damages add up, and what each way takes as a multiple of one streamed comparison (processor
time: the machine may be busy).
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, TypeVar

from qfund.core.estimate import Estimate
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.layers import tables
from qfund.features.layers.measure.choosing import Choosing, choosing
from qfund.features.layers.measure.gradient import scores
from qfund.features.layers.measure.injected import layers, noise
from qfund.features.layers.measure.opening import Opening, opening
from qfund.features.layers.measure.searched import in_nat, mean, paired, split
from qfund.features.layers.measure.swapped import mixes, swaps
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.recipe import SCORES, RecipeRequest
from qfund.features.layers.request.solver import solve
from qfund.features.layers.request.swaps import PARTS, SwapsRequest, additivity
from qfund.precisions import backends
from qfund.stream.mixed import Mix

ROWS = ("int8", "int6", "int5", "int4", "int4_g128", "int3", "nf4")
FEW = ("int8", "int5", "int4", "int3")
TEXTS, SEARCH, TEST, THIRD = 3, 1024, 4096, 4096
SEED = 18
BUDGETS = (4.25, 4.5, 4.75, 5.0)
ALIKE: tuple[tuple[str, ...], ...] = (("qkv", "gate-up"), (), ("block",), ("kind",))

Result = TypeVar("Result")


def quiet(phase: str, share: float | None) -> None:
    """No progress."""


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What it gives, and the processor's seconds that it took."""
    started = time.process_time()
    return work(), time.process_time() - started


@dataclass(frozen=True, slots=True)
class Searched:
    """One text: damages by score, groups and rows, and what uniform precisions cost there. ``test`` and ``third`` come
    after it."""

    damages: Mapping[str, Mapping[tuple[tuple[str, ...], str], float]]
    uniform: Mapping[str, float]
    test: Opening
    third: Opening


@dataclass(frozen=True, slots=True)
class Found:
    """A recipe, and the best uniform precision of no more bytes by the text that was searched."""

    alike: tuple[str, ...]
    rows: tuple[str, ...]
    score: str
    bits: float
    mix: Mix
    rival: str


def searched(part: Opening, offers: Mapping[tuple[str, ...], Choosing]) -> Searched:
    """Everything that recipes are made of, on one text."""
    search, rest = split(part, SEARCH)
    test, third = split(rest, TEST)
    singles = {key: mix for offer in offers.values() for key, mix in offer.singles.items()}
    named = {key: Mix(f"{number}", mix.modules) for number, (key, mix) in enumerate(singles.items())}
    uniform = next(iter(offers.values())).everywhere
    seen = mixes(search, [*named.values(), *uniform.values()], (), quiet).positions
    foretold = scores(search, quiet)
    damages = {
        "swaps": {key: mean(seen[mix.name]) for key, mix in named.items()},
        "gradient": {key: sum(foretold[name, key[1]] for name in key[0]) for key in named},
    }
    costs = {row: mean(seen[mix.name]) for row, mix in uniform.items()}
    own = noise(search, (), quiet)
    damages["injected"] = {  # each grouping by itself: its shares are of what a precision costs everywhere
        key: damage
        for offer in offers.values()
        for key, damage in in_nat(
            {key: sum(own[name, key[1]] for name in key[0]) for key in offer.singles}, costs
        ).items()
    }
    return Searched(damages, costs, test, third)


def one(offer: Choosing, seen: Searched, found: Found) -> Found | None:
    """Its mix and its rival, where the budget allows of either."""
    damages = seen.damages[found.score]
    choices = [
        replace(choice, bytes={row: choice.bytes[row] for row in (offer.rows[0], *found.rows)})
        for choice in offer.choices(damages)
    ]
    budget = offer.within(found.bits)
    chosen = solve(choices, budget - offer.rest)
    small = [row for row in found.rows if offer.rest + sum(each[row] for each in offer.bytes.values()) <= budget]
    if chosen is None or not small:
        return None
    modules = offer.mixture(choices, chosen).modules
    mix = Mix(found.mix.name, {name: row for name, row in modules.items() if row != offer.rows[0]})
    return replace(found, mix=mix, rival=min(small, key=lambda row: seen.uniform[row]))


def gains(model: str, count: int) -> None:
    """The budgets that matter with all rows, and random searches."""
    each = SEARCH + TEST + THIRD
    request = RecipeRequest(model, ROWS, bits=5.0, max_tokens=TEXTS * each, test_tokens=2)
    whole, random = opening(request, quiet), Random(SEED)
    offers = {alike: choosing(whole, replace(request, alike=alike)) for alike in ALIKE}
    texts: list[Searched] = []
    for _ in range(TEXTS):
        part, whole = split(whole, each) if len(texts) < TEXTS - 1 else (whole, whole)
        (made, seconds) = timed(partial(searched, part, offers))
        texts.append(made)
        print(f"text {len(texts)}: searched in {seconds:.0f} s of processor time", flush=True)
    asked: list[tuple[int, Found]] = [
        (number, Found(alike, ROWS, score, bits, Mix(f"{score} {number} {alike} {bits}"), ""))
        for number in range(TEXTS)
        for alike in ALIKE[:2]
        for score in SCORES
        for bits in BUDGETS
    ]
    usual = len(asked)
    while len(asked) < usual + count:
        rows = tuple(sorted(random.sample(ROWS, random.randint(2, len(ROWS))), key=ROWS.index))
        alike, score = random.choice(ALIKE), random.choice(list(SCORES))
        found = Found(alike, rows, score, round(random.uniform(3.5, 7), 2), Mix(f"random {len(asked)}"), "")
        number = random.randrange(TEXTS)
        if one(offers[alike], texts[number], found):
            asked.append((number, found))
    less: dict[tuple[str, float], list[float]] = {}
    worse, better, same, kept, again_worse = 0, 0, 0, 0, 0
    columns = "{:4} {:12} {:8} {:>5} {:>9} {:>8} {:>8} {:>5}  {}"
    print(
        "\n" + columns.format("text", "alike", "score", "bits", "uniform", "KL", "recipe", "less", "difference (95 %)")
    )
    for number, seen in enumerate(texts):
        held = [
            (place, one(offers[found.alike], seen, found))
            for place, (text, found) in enumerate(asked)
            if text == number
        ]
        recipes = [(place, found) for place, found in held if found]
        uniform = next(iter(offers.values())).everywhere
        everything = [*uniform.values(), *(found.mix for _, found in recipes)]
        tested, later = (mixes(part, everything, (), quiet).positions for part in (seen.test, seen.third))
        for place, found in recipes:
            rival = uniform[found.rival].name
            difference = paired(tested[found.mix.name], tested[rival])
            again = paired(later[found.mix.name], later[rival])
            assert difference and again
            if place >= usual:
                worse, better = worse + _above(difference), better + _below(difference)
                same += not _above(difference) and not _below(difference)
                kept, again_worse = kept + _below(difference), again_worse + (_below(difference) and _above(again))
                if _above(difference):
                    print(f"WORSE: text {number + 1}, {found.alike}, {found.score}, {found.rows}, {found.bits}")
                    print(f"  than {found.rival} by {_told(difference)}; {found.mix.modules}")
                continue
            base, own = mean(tested[rival]), mean(tested[found.mix.name])
            named = "+".join(found.alike) or "none"
            less.setdefault((f"{named}, {found.score}", found.bits), []).append(1 - own / base)
            told = (found.rival, f"{base:.5f}", f"{own:.5f}", f"{1 - own / base:.0%}", _told(difference))
            print(columns.format(number + 1, named, found.score, found.bits, *told), flush=True)
    print("\nless KL than the best uniform precision of no more bytes, in the middle of the texts:")
    for (what, bits), values in less.items():
        print(f"  {what:22} {bits:4} bits: {statistics.median(values):.0%} ({min(values):.0%} to {max(values):.0%})")
    total = len(asked) - usual
    print(f"\n{total} random searches, on text that was not searched: {better} recipes measurably better than the best")
    print(f"uniform of no more bytes, {same} neither, {worse} measurably worse.")
    print(f"Of {kept} recommended on the second text, measurably worse on the third: {again_worse}.", flush=True)


def _told(found: Estimate) -> str:
    return f"{found.value:.6f} ({found.low:.6f} to {found.high:.6f})"


def _above(found: Estimate) -> bool:
    return found.low is not None and found.low > 0


def _below(found: Estimate) -> bool:
    return found.high is not None and found.high < 0


def ways(model: str, tokens: int = 2048) -> None:
    """Ranks, sums, and what each way takes."""
    common: dict[str, Any] = {"model": model, "precisions": FEW, "max_tokens": tokens}
    comparison, unit = timed(lambda: compare(Spec(**common)))
    assert comparison.results
    print(f"one streamed comparison of {', '.join(FEW)} on {tokens} tokens: {unit:.1f} s of processor time, {_peak()}")
    injected, seconds = timed(lambda: layers(LayersRequest(**common)))
    print(f"injected: {seconds / unit:.2f} ×; {len(injected.modules)} modules, {_peak()}")
    graded, both = timed(lambda: layers(LayersRequest(**common, gradient=True)))
    print(f"gradients: {(both - seconds) / unit:.2f} ×, {_peak()}")
    for part in PARTS:
        found, seconds = timed(partial(swaps, SwapsRequest(**common, part=part)))
        frame = tables.against(graded, found)
        sums = [additivity(found, row) for row in FEW]
        print(
            f"swaps by {part}: {seconds / unit:.2f} ×, additivity {_each(sums)}; "
            f"ρ injected {_middle(tables.rank_correlation(frame))}, gradients "
            f"{_middle(tables.rank_correlation(frame, 'score'))}, {_peak()}",
            flush=True,
        )


def _each(values: Sequence[float | None]) -> str:
    return ", ".join("–" if value is None else f"{value:.2f}" for value in values)


def _middle(values: dict[str, float]) -> str:
    return f"{statistics.median(values.values()):.2f}" if values else "–"


def _peak() -> str:
    """The most memory that this process has held so far."""
    return f"peak so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB"


def main() -> None:
    backends.quiet()
    model = sys.argv[1] if len(sys.argv) > 1 else "pydoc-llama"
    ways(model)
    gains(model, int(sys.argv[2]) if len(sys.argv) > 2 else 50)


if __name__ == "__main__":
    main()
