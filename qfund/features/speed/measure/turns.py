"""Models in turns: everyone's prompt and writing at each point, once a round, so that a machine that slows down does so
for all of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


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
    """Seconds of each round: of a whole prompt, and of one step (the mean of those that a round writes); ``joules`` of
    one step where they are counted."""

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
    backwards. No round begins after ``seconds``, but one is always measured."""
    names = list(writers)
    found = {name: {place: Taken() for place in places} for name in names}
    started = clock()
    for number in range(-1, rounds):
        told((number + 1) / (rounds + 1))
        if number > 0 and clock() - started >= seconds:
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


def _once(
    writer: Writer, place: Place, new_tokens: int, clock: Callable[[], float], joules: Callable[[], float | None]
) -> tuple[float, float, float | None]:
    before = clock()
    writer.begin(*place)
    read, charged = clock(), joules()
    for _ in range(new_tokens):
        writer.step()
    step = (clock() - read) / new_tokens
    spent = joules()
    return read - before, step, None if charged is None or spent is None else (spent - charged) / new_tokens
