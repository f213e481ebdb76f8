"""Models in turns: everyone's prompt and writing at each point, once a round, so that a machine that slows down does so
for all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qfund.core.estimate import quickest

#: Rounds after which it is looked at whether times scatter, and how many times as many as asked for there are at most.
MORE, MOST = 6, 3
#: Width of an interval, relative to its median, that is narrow enough.
NARROW = 0.03


class Writer(Protocol):
    """What is timed. Both return when all is computed; on a GPU they synchronise."""

    def begin(self, batch: int, depth: int) -> None:
        """Read prompts of ``depth`` tokens; the first token of each sequence is then known."""

    def step(self) -> None:
        """Write another token of each sequence."""


#: Batch and depth.
Place = tuple[int, int]


@dataclass(slots=True)
class Taken:
    """Seconds of each round: of a whole prompt, and of one step (the median of those that a round writes: a step that
    was interrupted says nothing of the model); ``joules`` of one step where they are counted."""

    prefill: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)


def turns(
    writers: Mapping[str, Writer],
    places: Sequence[Place],
    new_tokens: int,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    joules: Callable[[], float | None] = lambda: None,
    told: Callable[[float], None] = lambda share: None,
) -> dict[str, dict[Place, Taken]]:
    """One round that warms up, then ``rounds`` of them; each begins with another model, and every second one goes
    backwards. Where at least ``MORE`` are asked for and times scatter there are more, until they do not or
    there were ``MOST`` times as many. No round begins after ``seconds``, but one is always measured."""
    names = list(writers)
    found = {name: {place: Taken() for place in places} for name in names}
    started = clock()
    for number in range(-1, rounds * (MOST if rounds >= MORE else 1)):
        told(min(1.0, (number + 1) / (rounds + 1)))
        if number > 0 and clock() - started >= seconds:
            break
        if number >= rounds and number % MORE == 0 and steady(found):
            break
        turn = max(number, 0) % len(names)
        order = names[turn:] + names[:turn]
        for place in places:
            for name in reversed(order) if number % 2 else order:
                taken = _once(writers[name], place, new_tokens, clock, joules)
                if number >= 0:
                    held = found[name][place]
                    held.prefill.append(taken[0])
                    held.step.append(taken[1])
                    held.joules += [] if taken[2] is None else [taken[2]]
    return found


def steady(found: Mapping[str, Mapping[Place, Taken]]) -> bool:
    """Whether the intervals of half of all steps are narrow enough."""
    spreads = [quickest(taken.step) for places in found.values() for taken in places.values()]
    return statistics.median((one.high - one.low) / one.median for one in spreads) <= NARROW


def _once(
    writer: Writer, place: Place, new_tokens: int, clock: Callable[[], float], joules: Callable[[], float | None]
) -> tuple[float, float, float | None]:
    before = clock()
    writer.begin(*place)
    read, charged = clock(), joules()
    steps, last = [], read
    for _ in range(new_tokens):
        writer.step()
        now = clock()
        steps.append(now - last)
        last = now
    spent = joules()
    return (
        read - before,
        statistics.median(steps),
        None if charged is None or spent is None else (spent - charged) / new_tokens,
    )
