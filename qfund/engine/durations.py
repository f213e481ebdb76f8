"""How long jobs took, and so how long the next ones will take."""

import heapq
import statistics
from collections import defaultdict, deque
from collections.abc import Sequence

from qfund.core.request import Request
from qfund.engine.kinds import kind_of

#: Jobs of a kind that are remembered: the latest.
KEPT = 20


class Durations:
    """Seconds that jobs ran, by kind and by kind and model. Not thread-safe."""

    def __init__(self) -> None:
        self._seconds: defaultdict[tuple[str, ...], deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def note(self, kind: str, model: str, seconds: float) -> None:
        self._seconds[kind, model].append(seconds)
        self._seconds[kind,].append(seconds)
        if len(self._seconds) > 500:  # models that strangers name
            del self._seconds[next(iter(self._seconds))]

    def expect(self, request: Request) -> float | None:
        """The median of the latest of its kind, of the same model if there were any; None where there were none."""
        kind = kind_of(request).name
        for key in ((kind, request.model), (kind,)):
            if key in self._seconds:
                return statistics.median(self._seconds[key])
        return None


def until_free(running: Sequence[float | None], waiting: Sequence[float | None], lanes: int) -> float | None:
    """Seconds until the next one can begin, where these run and wait; None where that cannot be said."""
    known = [seconds for seconds in running if seconds is not None]
    free = known + [0.0] * (lanes - len(running))
    if len(known) < len(running) or None in waiting:
        return None
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heappush(free, heapq.heappop(free) + (seconds or 0.0))
    return free[0]
