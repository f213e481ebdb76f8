"""How long models take beside each other: one process, interleaved rounds, ratios taken within a round.

A machine that slows down or speeds up in the middle then does so for all of them, and a ratio hardly notices.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qfund.core.estimate import Spread, spread


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
