"""Models that hold all of their weights, side by side on a CPU.

The products of a small model are so small that two threads share one badly: they take longer to wake and to wait for
each other than to compute. So each lane, a thread with its part of torch's threads, takes a whole forward.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread

import torch

from qfund.stream.frame import Frame
from qfund.stream.held.share import one_of
from qfund.stream.walker import Walker


@dataclass(frozen=True, slots=True)
class Lanes:
    """``count`` lanes of so many ``threads`` each."""

    count: int
    threads: int

    @staticmethod
    def of(models: int, device: torch.device) -> "Lanes":
        """For so many models: as many lanes as all of this thread's threads allow. A GPU has one, which is busy with
        what it is given."""
        threads = torch.get_num_threads()
        count = min(models, threads) if device.type == "cpu" else 1
        return Lanes(max(1, count), max(1, threads // max(1, count)))

    @contextmanager
    def threaded(self) -> Iterator[None]:
        """Compute with a lane's threads. A thread's first question sets its number, to the last that any was given."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class _Forward:
    walker: Walker
    batch: int
    reference: bool
    order: int  # among all forwards, one after the other

    def run(self) -> None:
        self.walker.through(self.batch)


class SideBySide:
    """Some batches on their way through several models, of which the first is the reference.

    Of a batch the reference's forward comes before the others'. A model goes through one batch at a time, in order, and
    so do models that share a frame. What a batch gave is taken in by one lane when all have gone through it; the next
    one is begun meanwhile, and no third, whose outputs would have to wait.
    """

    def __init__(self, walkers: Sequence[Walker], batches: range, lanes: Lanes, taken: Callable[[int], None]) -> None:
        """``taken`` is called with the number of each batch, in order, when its outputs are there."""
        self._lanes, self._taken = lanes, taken
        self._waiting = _in_order(walkers, batches, ahead=lanes.count > 1)
        self._left = dict.fromkeys(batches, len(walkers))
        self._now, self._end = batches.start, batches.stop  # of batches, the one that is taken in next, and the last
        self._referred = batches.start  # the reference went through those before
        self._busy = set[Frame]()
        self._taking = self._ended = False
        self._failed: list[tuple[int, BaseException]] = []
        self._changed = Condition()

    def run(self, told: Callable[[int], None]) -> None:
        """Until all is taken in; ``told`` of batches that this thread begins.

        Raises what a model raises: of several errors the one that would have come first, one after the other.
        """
        first, others = self._next(), list[Thread]()
        if not isinstance(first, _Forward):
            return
        with self._lanes.threaded():
            try:
                # Alone: what a model sets up in its first forward is there for all, and one that draws random numbers,
                # of which torch has one source for all threads, is found out.
                told(first.batch)
                first.run()
                count = 1 if first.walker.draws(first.batch) else self._lanes.count
                self._over(first)
                others = [Thread(target=self._other, args=(count,), name="lane") for _ in range(count - 1)]
                for other in others:
                    other.start()
                self._lane(count, told)
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
                for other in others:
                    other.join()
        if self._failed:
            raise min(self._failed, key=lambda row: row[0])[1]

    def _other(self, count: int) -> None:
        with self._lanes.threaded(), torch.inference_mode():
            self._lane(count, lambda batch: None)

    def _lane(self, count: int, told: Callable[[int], None]) -> None:
        order, last = -1, self._now
        try:
            with one_of(count):
                while (work := self._next()) is not None:
                    if isinstance(work, _Forward):
                        order = work.order
                        if work.batch > last:
                            last = work.batch
                            told(last)
                        work.run()
                    else:
                        self._taken(work)
                    self._over(work)
        except BaseException as error:  # in whichever thread it came up, ``run`` raises it
            with self._changed:
                self._failed.append((order if isinstance(error, Exception) else -1, error))
                self._changed.notify_all()

    def _next(self) -> "_Forward | int | None":
        """What a lane does next, a forward or the batch that is to be taken in, once there is something; None at the
        end, and after an error."""
        with self._changed:
            while not (self._ended or self._failed or self._now == self._end):
                if not self._taking and not self._left[self._now]:
                    self._taking = True
                    return self._now
                for work in self._waiting:
                    if work.batch > self._now + 1:
                        break
                    if work.walker.frame not in self._busy and (work.reference or work.batch < self._referred):
                        self._waiting.remove(work)
                        self._busy.add(work.walker.frame)
                        return work
                self._changed.wait()
            return None

    def _over(self, work: "_Forward | int") -> None:
        with self._changed:
            if isinstance(work, _Forward):
                self._busy.discard(work.walker.frame)
                self._left[work.batch] -= 1
                self._referred += work.reference
            else:
                self._taking = False
                self._now += 1
            self._changed.notify_all()


def _in_order(walkers: Sequence[Walker], batches: range, ahead: bool) -> list[_Forward]:
    """One batch after the other; the reference ``ahead`` goes through the next after the first candidate, so that no
    lane waits for it in the end."""
    every = [
        _Forward(walker, batch, walker is walkers[0], batch * len(walkers) + place)
        for batch in batches
        for place, walker in enumerate(walkers)
    ]

    def begun(work: _Forward) -> float:
        early = ahead and work.reference and work.batch > batches.start
        return work.order - len(walkers) + 1.5 if early else work.order

    return sorted(every, key=begun)
