"""Weights that are read while others are computed with, where reading waits for a disk.

Reading from the page cache is work of a core, which computing needs too: to read ahead would gain nothing there, and
takes the memory of one more part of the model. So the first parts are read when they are needed, and what reading waits
for is measured: only where that is a good part of the time, and where there is room, a thread reads the next part.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from qfund.core.processor import delay
from qfund.stream.units import Unit

Tensors = dict[str, Tensor]
#: Share of the time of a walk from which on waiting is worth the memory.
WORTH = 0.05
_THIS_THREAD = Path("/proc/thread-self/schedstat")


class Ahead:
    """Reads parts of one checkpoint, one at a time, in the caller's thread or in one of its own.

    Attributes:
        room: bytes that may be taken for a part that is read ahead; None for as many as it has.
        waited: seconds that reading in the caller's thread has waited, neither computing nor for a core.
        ahead: how many parts were there when they were needed, or on their way.
    """

    def __init__(self, read: Callable[[Unit], Tensors], size: Callable[[Unit], int]) -> None:
        self.room: int | None = None
        self.waited, self.ahead = 0.0, 0
        self._read, self._size = read, size
        self._started = time.perf_counter()
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[Unit, Future[Tensors]] | None = None

    def start(self) -> None:
        """A walk begins."""
        self.waited, self.ahead, self._started = 0.0, 0, time.perf_counter()

    def take(self, unit: Unit) -> Tensors:
        """The tensors of a part.

        Raises:
            ModelNotFound: as ``Reader.read``, also where it was read ahead.
        """
        self.only(unit)
        if self._next is not None:
            (_, coming), self._next = self._next, None
            self.ahead += 1
            return coming.result()
        before, found = _clock(), self._read(unit)
        wall, working, delayed = (now - then for now, then in zip(_clock(), before, strict=True))
        self.waited += max(0.0, wall - working - delayed)
        return found

    def begin(self, unit: Unit | None) -> None:
        """Read this part now, if that is worth it; it is the next one to be taken, unless the model does otherwise."""
        if unit is None or self._next is not None or self.waited < WORTH * (time.perf_counter() - self._started):
            return
        if self.room is None or self._size(unit) <= self.room:
            self._pool = self._pool or ThreadPoolExecutor(1, "ahead")
            self._next = unit, self._pool.submit(self._read, unit)

    def only(self, unit: Unit | None) -> None:
        """Wait for whatever else is being read, and drop it: nobody else reads meanwhile."""
        if self._next is not None and self._next[0] is not unit:
            with suppress(Exception):  # it is raised where the part is needed
                self._next[1].result()
            self._next = None

    def close(self) -> None:
        """The walk is over."""
        self.only(None)
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _clock() -> tuple[float, float, float]:
    """Seconds: of the clock, of all cores of this process, and that this thread was ready and had no core."""
    return time.perf_counter(), time.process_time(), delay(_THIS_THREAD)
