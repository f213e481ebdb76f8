"""Whose turn it is: round and round among those who wait, however much each of them has asked for."""

import time
from collections.abc import Sequence

from qfund.core.errors import QueueFull
from qfund.engine.job import Record, Visitor


class Turns:
    """The queue of jobs of one sort: quick ones, or those that take long. Not thread-safe.

    Args:
        capacity: how many jobs may wait.
        places: how many jobs of one visitor may wait or run at once; an address, which several visitors may share, has
            twice as many. None: no limit but ``capacity``.
    """

    def __init__(self, capacity: int, places: int | None = None) -> None:
        self._capacity = capacity
        self._places = places
        self._waiting: list[Record] = []  # in the order in which they came
        self._running: list[Record] = []
        self._served: dict[str, int] = {}  # a visitor or an address → the turn in which it was served last
        self._turn = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, record: Record) -> bool:
        return record in self._waiting

    def admit(self, visitor: Visitor, elsewhere: int = 0) -> None:
        """Raises ``QueueFull`` where ``visitor``, who has ``elsewhere`` jobs at other servers, cannot be given another
        place."""
        if self._places is not None:
            active = [*self._running, *self._waiting]
            own = elsewhere + sum(any(owner.id == visitor.id for owner in record.owners) for record in active)
            same = sum(any(owner.address == visitor.address for owner in record.owners) for record in active)
            if visitor.id and own >= self._places:
                raise QueueFull(
                    f"{own} of your jobs wait or run already.", "Wait for one of them, or cancel one that can wait."
                )
            if visitor.address is not None and same >= 2 * self._places:
                raise QueueFull(f"{same} jobs from your network wait or run already.", "Try again in a few minutes.")
        waiting = len(self._waiting) - (not self._running)  # where none runs, the first in the queue is about to
        if waiting >= self._capacity:
            raise QueueFull(f"The queue is full ({waiting} waiting).", "Try again in a few minutes.")

    def add(self, record: Record) -> None:
        self._waiting.append(record)

    def remove(self, record: Record) -> None:
        """It is over, whether it waited or ran."""
        for records in (self._waiting, self._running):
            if record in records:
                records.remove(record)

    def put_back(self, record: Record) -> None:
        """One that ran waits again, behind the others."""
        self.remove(record)
        self.add(record)

    def ready(self) -> list[Record]:
        """Those who wait and do not rest."""
        return [record for record in self._waiting if record.rests <= time.monotonic()]

    def take(self, record: Record | None = None) -> Record | None:
        """The next one, or this one that waits; it runs from now on."""
        ready = self.ready() if record is None else [record]
        if not ready:
            return None
        record = _next(ready, self._served)
        self._turn += 1
        self._served |= dict.fromkeys(_names(record), self._turn)
        self._waiting.remove(record)
        self._running.append(record)
        if len(self._served) > 1000:  # who has not been here for long is as good as new
            self._served = {name: turn for name, turn in self._served.items() if turn > self._turn - 500}
        return record

    @property
    def running(self) -> Sequence[Record]:
        return self._running

    def order(self) -> list[Record]:
        """Those who wait, in the order in which they will run if nobody else comes."""
        waiting, served, turn, found = list(self._waiting), dict(self._served), self._turn, []
        while waiting:
            found.append(_next(waiting, served))
            turn += 1
            served |= dict.fromkeys(_names(found[-1]), turn)
            waiting.remove(found[-1])
        return found


def _next(waiting: Sequence[Record], served: dict[str, int]) -> Record:
    """The first of whom of those who wait was served longest ago: of the addresses, and in each of its visitors."""
    return min(waiting, key=lambda record: tuple(served.get(name, 0) for name in _names(record)))


def _names(record: Record) -> tuple[str, str]:
    """Whose turn it uses: the address and the visitor who have waited for it longest."""
    owner = record.owners[0] if record.owners else Visitor()
    return f"address {owner.address or owner.id}", f"visitor {owner.id}"
