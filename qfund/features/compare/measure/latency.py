"""How long models take beside each other: one process, interleaved rounds, ratios taken within a round.

A machine that slows down or speeds up in the middle then does so for all of them, and a ratio hardly notices.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the interval that holds the true one with a probability of at least 95 % (all there is, when fewer
    than six rounds make that impossible)."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Latency:
    """``ratio`` is to the first model, from pairs within rounds; of the first model itself it is exactly 1."""

    seconds: Spread
    ratio: Spread
    rounds: int


def latencies(
    models: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds_budget: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Run each model once per round, after one round that warms up and is not counted.

    Each round starts with another model, and every second round goes backwards, so that none always follows the same
    one. No round starts when the budget is spent, but one is always measured.

    Args:
        models: name → a call that returns when all is computed; on a GPU it must synchronise.
    """
    names = list(models)
    started = clock()
    for name in names:
        models[name]()
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        if number and clock() - started >= seconds_budget:
            break
        turn = number % len(names)
        order = names[turn:] + names[:turn]
        for name in reversed(order) if number % 2 else order:
            before = clock()
            models[name]()
            samples[name].append(clock() - before)
    first = samples[names[0]]
    return {
        name: Latency(
            seconds=spread(taken),
            ratio=spread([one / other for one, other in zip(taken, first, strict=True)]),
            rounds=len(taken),
        )
        for name, taken in samples.items()
    }


def spread(values: Sequence[float]) -> Spread:
    """Median and its interval between two order statistics: no assumption about how the values are distributed."""
    ordered = sorted(values)
    cut = _outside(len(ordered))
    return Spread(statistics.median(ordered), ordered[cut], ordered[-1 - cut])


def _outside(count: int) -> int:
    """How many values may be dropped at either end: P(fewer than that many + 1 lie on one side) stays below 2.5 %."""
    tail, cut = 0.0, 0
    for below in range(count // 2):
        tail += math.comb(count, below) / 2**count
        if tail > 0.025:
            break
        cut = below
    return cut
