"""Models in turns: everyone's prompt and writing at each point, once a round, so that a machine that slows down does so
for all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qfund.core.estimate import quickest
from qfund.core.units import seconds_text

#: Rounds after which it is looked at whether times scatter, and how many times as many as asked for there are at most.
MORE, MOST = 6, 3
#: Width of an interval, relative to its median, that is narrow enough.
NARROW = 0.03
#: Steps of a turn, at least, and of warming up.
FEW = 4


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


@dataclass(slots=True)
class Turned:
    """What was measured of what was asked for.

    Attributes:
        names, places, new_tokens: that were timed, and steps of each turn.
        without: places that would have taken too long; ``left``: models, and seconds that one round of each would take.
        taken: by model and place.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    new_tokens: int
    without: tuple[Place, ...] = ()
    left: dict[str, float] = field(default_factory=dict)
    taken: dict[str, dict[Place, Taken]] = field(default_factory=dict)


def turns(
    writers: Mapping[str, Writer],
    places: Sequence[Place],
    new_tokens: int,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    joules: Callable[[], float | None] = lambda: None,
    told: Callable[[str, float], None] = lambda phase, share: None,
) -> Turned:
    """One round that warms up, then ``rounds`` of them; each begins with another model, and every second one goes
    backwards. Where at least ``MORE`` are asked for and times scatter there are more, until they do not or
    there were ``MOST`` times as many. No round begins after ``seconds``, but one is always measured: where that would
    take longer, by what the smallest place takes, less is (see ``Turned``)."""
    started = clock()
    first = min(places, key=lambda place: place[0] * place[1])
    warm = dict[str, tuple[float, float]]()
    for number, name in enumerate(reversed(list(writers))):
        told("warming up", number / len(writers) / 10)
        warm[name] = _once(writers[name], first, min(new_tokens, FEW), clock, lambda: None)[:2]
    made = _fitting({name: warm[name] for name in writers}, places, first, new_tokens, seconds)
    for place in made.places:
        for name in reversed(made.names):
            told("warming up", 0.1)
            if place != first:
                _once(writers[name], place, 1, clock, lambda: None)
    names, measuring = list(made.names), clock()
    found = {name: {place: Taken() for place in made.places} for name in names}
    for number in range(rounds * (MOST if rounds >= MORE else 1)):
        if number and clock() - started >= seconds:
            break
        if number >= rounds and number % MORE == 0 and steady(found):
            break
        turn = number % len(names)
        order = names[turn:] + names[:turn]
        for at, place in enumerate(made.places):
            share = (number + at / len(made.places)) / rounds
            left = (clock() - measuring) / share * (1 - share) if 0 < share < 1 else 0.0
            told(f"writing in turns{_about(min(left, started + seconds - clock()))}", min(1.0, 0.1 + 0.9 * share))
            for name in reversed(order) if number % 2 else order:
                taken = _once(writers[name], place, made.new_tokens, clock, joules)
                held = found[name][place]
                held.prefill.append(taken[0])
                held.step.append(taken[1])
                held.joules += [] if taken[2] is None else [taken[2]]
    made.taken.update(found)
    return made


def _fitting(
    warm: Mapping[str, tuple[float, float]], places: Sequence[Place], first: Place, new_tokens: int, seconds: float
) -> Turned:
    """What is measured within so many seconds: fewer steps a turn; then without the places that read most; then
    without the slowest models, but never without the first, the reference."""
    ordered = sorted(places, key=lambda place: place[0] * place[1])
    names = list(warm)

    def takes(names: Sequence[str], places: Sequence[Place], steps: int) -> float:
        """Seconds of warming up and of a round: reading grows with tokens, writing hardly with sequences."""
        size = sum(batch * depth for batch, depth in places) / (first[0] * first[1])
        return sum(2 * size * warm[name][0] + (steps + 1) * len(places) * warm[name][1] for name in names)

    steps = new_tokens
    while steps > FEW and takes(names, ordered, steps) > seconds / 2:
        steps = max(FEW, steps // 2)
    while len(ordered) > 1 and takes(names, ordered, steps) > seconds:
        ordered.pop()
    left = dict[str, float]()
    while len(names) > 1 and takes(names, ordered, steps) > seconds:
        slowest = max(names[1:], key=lambda name: sum(warm[name]))
        names.remove(slowest)
        left[slowest] = takes([slowest], ordered, steps)
    kept = [place for place in places if place in ordered]
    return Turned(tuple(names), tuple(kept), steps, tuple(place for place in places if place not in ordered), left)


def _about(seconds: float) -> str:
    return f", about {seconds_text(seconds)} left" if seconds >= 10 else ""


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
