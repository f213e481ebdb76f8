"""Weights that are read and quantised while others are computed with, where reading waits for a disk.

Reading from the page cache, and quantising, are work of a core, which computing needs too: to do it ahead would gain
nothing there, and takes the memory of one more part of the model. So the first parts are made when they are needed, and
what that waits for is measured: only where it is a good part of the time, and where there is room, a thread makes the
next part.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from qfund.core.processor import delay

Part = TypeVar("Part")
Made = TypeVar("Made")
#: Share of the time of a walk from which on waiting is worth the memory.
WORTH = 0.05
_THIS_THREAD = Path("/proc/thread-self/schedstat")


class Ahead(Generic[Part, Made]):
    """Makes parts of a model, one at a time, in the caller's thread or in one of its own.

    Attributes:
        room: bytes that may be taken for a part that is made ahead; None for as many as it has.
        waited: seconds that making them in the caller's thread has waited, neither computing nor for a core.
        ahead: how many parts were there when they were needed, or on their way.
        worth: share of the time from which on waiting is worth the memory.
    """

    def __init__(
        self, make: Callable[[Part], Made], size: Callable[[Part], int], clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        """``size``: bytes that a part takes that is made ahead; ``clock``: seconds that reading has waited
        so far, whoever read."""
        self.room: int | None = None
        self.waited, self.ahead, self.worth = 0.0, 0, WORTH
        self._make, self._size, self._clock = make, size, clock
        self._started = time.perf_counter()
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[Part, Future[Made]] | None = None

    def start(self) -> None:
        """A walk begins."""
        self.waited, self.ahead, self._started = 0.0, 0, time.perf_counter()

    @property
    def waits(self) -> bool:
        """Whether reading waits so long that to do it ahead is worth the memory."""
        return self.waited >= self.worth * (time.perf_counter() - self._started)

    def take(self, part: Part) -> Made:
        """What is made of a part.

        Raises:
            Exception: whatever making it raises, also where that was done ahead.
        """
        self.only(part)
        if self._next is not None:
            (_, coming), self._next = self._next, None
            self.ahead += 1
            return coming.result()
        before = self._clock()
        found = self._make(part)
        self.waited += self._clock() - before
        return found

    def begin(self, part: Part | None) -> None:
        """Make this part now, if that is worth it; it is the next one to be taken, unless the model does otherwise."""
        if part is None or self._next is not None or not self.waits:
            return
        if self.room is None or self._size(part) <= self.room:
            self._pool = self._pool or ThreadPoolExecutor(1, "ahead")
            self._next = part, self._pool.submit(self._make, part)

    def only(self, part: Part | None) -> None:
        """Wait for whatever else is being made, and drop it: nobody else reads meanwhile."""
        if self._next is not None and self._next[0] != part:
            with suppress(Exception):  # it is raised where the part is needed
                self._next[1].result()
            self._next = None

    def close(self) -> None:
        """The walk is over."""
        self.only(None)
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


@contextmanager
def waiting() -> Iterator[list[float]]:
    """A list that holds, after the block, the seconds for which it neither computed nor was ready and had no core."""
    found = [0.0]
    wall, working, delayed = _clock()
    try:
        yield found
    finally:
        now = _clock()
        found[0] = max(0.0, now[0] - wall - (now[1] - working) - (now[2] - delayed))


def _clock() -> tuple[float, float, float]:
    """Seconds: of the clock, of this thread, and for which it was ready and had no core."""
    return time.perf_counter(), time.thread_time(), delay(_THIS_THREAD)
