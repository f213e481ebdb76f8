"""A worker and the thread that gives it one job after another."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from qfund.core.errors import EngineError, OutOfBudget, QfundError, TimedOut, WorkerDied
from qfund.core.units import bytes_text
from qfund.engine import messages
from qfund.engine.job import GONE_MACHINE, KILLED, Record, State
from qfund.engine.kinds import kind_of
from qfund.engine.process import Killed, Starved

#: How often a job is handed to a cluster: what has ended what did it again and again may go on doing so.
HANDED = 3
#: Workers in turn that are killed before a job has begun in them.
STILLBORN = 20
#: Seconds that a job rests whose workers were killed twice, twice as long each time after that, and at most: others
#: have their turn meanwhile.
REST, LONGEST_REST = 0.25, 4.0
#: Seconds between two looks at the time and the memory that a job takes.
LOOK = 0.25
#: Seconds that a worker without work is kept where it shall not stay warm.
IDLE = 300.0

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """What does jobs, one at a time: a process here (``qfund.engine.process``), or something that speaks the same
    messages elsewhere."""

    def alive(self) -> bool: ...

    def memory(self) -> int:
        """Bytes that it and what it started take now; 0 where nobody can tell."""

    def send(self, request: messages.Request) -> None: ...

    def events(self) -> Iterator[messages.Event]: ...

    def end(self, *, patience: float = 0.0) -> None: ...

    def close(self) -> None: ...

    def death(self, memory: int = 0) -> WorkerDied: ...


class Board(Protocol):
    """Where a lane takes jobs from and tells what becomes of them. ``changed`` guards all jobs, and is notified
    whenever one changes or there is something to do; what is called "locked" is called with it held."""

    changed: threading.Condition
    closed: bool

    def due(self, lane: "Lane") -> bool:
        """Locked. Whether there is a job for this lane."""

    def take(self, lane: "Lane") -> Record | None:
        """The next one, which runs from now on."""

    def limit(self, record: Record) -> float:
        """Seconds that it may run."""

    def note(self, record: Record, *, beat: bool = False) -> None:
        """Write it down; ``beat``: only if that was not done lately."""

    def tell(self, record: Record, **changes: Any) -> None:
        """Of one that still runs."""

    def share(self, record: Record, so_far: Any) -> None:
        """The result of what has been done."""

    def put_back(self, record: Record, rest: float) -> None:
        """Let one that runs wait again, behind the others, and for ``rest`` seconds at least."""

    def done(self, record: Record, result: Any) -> bool:
        """Keep the result; False if somebody has ended the job meanwhile."""

    def conclude(self, record: Record, state: State, error: QfundError, *, end: bool = False) -> bool:
        """A job is over; False if it was over before. ``end``: so is the worker that runs it."""


class Lane:
    """One job at a time, in a thread and a worker of its own. Neither is started before it is needed.

    Args:
        start: starts a worker, or raises ``WorkerDied``.
        memory: bytes that the worker may take; 0 for any.
        stays: whether a worker that has nothing to do is kept.
        hands_over: whether workers only hand jobs to other machines: where one is gone, the next one tries again.
    """

    def __init__(
        self,
        name: str,
        board: Board,
        start: Callable[[], Worker],
        *,
        memory: int = 0,
        stays: bool = True,
        hands_over: bool = False,
    ) -> None:
        self.name = name
        self._board = board
        self._start_worker = start
        self._memory = memory
        self._stays = stays
        self._hands_over = hands_over
        self._since: float | None = None  # when what runs began to run; None while it waits for a machine
        self._worker: Worker | None = None
        self._used = False  # whether the worker has been given anything to do
        self._thread: threading.Thread | None = None
        self._keep_warm = self._warm_wanted = False

    def start(self) -> None:
        """Locked."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"qfund-jobs-{self.name}", daemon=True)
            self._thread.start()

    def warm(self) -> None:
        """Locked. Have a worker that has imported what the first job needs, when nothing else is to be done."""
        self._keep_warm = self._warm_wanted = True
        self.start()

    @property
    def worker(self) -> Worker | None:
        """Locked. The one that runs what this lane runs."""
        return self._worker

    def join(self) -> None:
        """After the board was closed."""
        with self._board.changed:
            worker = self._worker
        if worker is not None:
            worker.end()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        board = self._board
        while True:
            with board.changed:
                called = board.changed.wait_for(
                    lambda: board.due(self) or self._warm_wanted or board.closed,
                    None if self._stays or self._worker is None else IDLE,
                )
                if board.closed:
                    break
                warm, self._warm_wanted = self._warm_wanted, False
            if not called:
                self._discard()
                continue
            record = board.take(self)
            try:
                if record is None and not warm:
                    continue
                if record is None:
                    self._ready().send(messages.Warm())
                else:
                    self._perform(record)
            except Exception as error:
                if record is None:
                    _log.warning("The worker cannot be warmed: %s", error)
                else:
                    self._fail(record, error)
        self._discard()

    def _perform(self, record: Record, stillborn: int = 0) -> None:
        worker = self._ready()
        if not record.job.active:  # cancelled meanwhile, and whoever did it may be ending this worker
            self._discard()
            return
        over, self._since = threading.Event(), None if self._hands_over else time.monotonic()
        threading.Thread(target=self._oversee, args=(record, over), name="qfund-limits", daemon=True).start()
        try:
            result, failed = self._follow(worker, record)
        except _NeverBegan as never:
            if stillborn >= STILLBORN:
                raise never.death from never
            self._discard()
            self._perform(record, stillborn + 1)  # by a fresh one, which will have done nothing before
            return
        except WorkerDied as died:
            tries = died.tries if isinstance(died, Killed) else HANDED if self._hands_over else 1
            attempts = record.job.attempts
            if not record.job.active or attempts >= tries:
                raise
            self._discard()
            self._again(record, GONE_MACHINE if self._hands_over else KILLED)
            if attempts == 1:
                self._perform(record)
            else:
                self._board.put_back(record, min(REST * 2 ** (attempts - 2), LONGEST_REST))
            return
        finally:
            over.set()
        if failed is None:
            going = self._board.done(record, result)
        else:
            going = self._board.conclude(record, "failed", failed.exception())
        if not going or (failed is not None and failed.spent):
            # Another thread has concluded the job and is ending the worker, perhaps only in a moment.
            self._discard()

    def _follow(self, worker: Worker, record: Record) -> tuple[Any, messages.Failed | None]:
        """Let the worker do the job, and listen: the result, or why there is none.

        Raises:
            WorkerDied: if it does not get to the end.
            _NeverBegan: it had ended when the job came, by something that it did before, or was killed until then.
        """
        begun, used, self._used = False, self._used, True
        try:
            kind = kind_of(record.job.request)
            worker.send(messages.Measure(kind.name, messages.document(record.job.request)))
            for event in worker.events():
                if not begun and not isinstance(event, messages.Ready):
                    begun = True
                    self._board.note(record)  # not before: a server that is ended first has not tried it
                self._since = None if isinstance(event, messages.Waiting) else self._since or time.monotonic()
                if isinstance(event, messages.Failed):
                    return None, event
                if isinstance(event, messages.Waiting):
                    if event.again:
                        self._again(record)
                    self._board.tell(record, phase=event.phase)
                if isinstance(event, messages.Done):
                    return kind.read_result(event.result), None
                if isinstance(event, messages.Progress):
                    since = record.job.begun or ((time.time(), event.share) if event.share else None)
                    self._board.tell(record, phase=event.phase, share=event.share, begun=since)
                if isinstance(event, messages.SoFar):
                    self._board.share(record, kind.read_result(event.result))
                if isinstance(event, messages.Partial):
                    self._board.tell(record, texts=event.texts)
        except msgspec.DecodeError as error:
            _log.error("The worker sent what cannot be read: %s", error)
            raise WorkerDied("The worker sent what cannot be read.", "See the log; then start it again.") from error
        except OSError as error:
            _log.warning("The worker is gone: %s", error)
        worker.end(patience=5.0)
        death = worker.death(self._memory)
        if not begun and record.job.active and (used or (isinstance(death, Killed) and not isinstance(death, Starved))):
            raise _NeverBegan(death)
        raise death

    def _again(self, record: Record, why: str = GONE_MACHINE) -> None:
        """What did it is gone, and it begins from the front."""
        attempts = record.job.attempts + 1
        self._board.tell(record, attempts=attempts, again=why, phase="", share=0.0, begun=None, texts={})

    def _fail(self, record: Record, error: Exception) -> None:
        if not isinstance(error, QfundError):
            _log.error("A job failed in the server", exc_info=error)
            error = EngineError(f"The job failed unexpectedly: {type(error).__name__}.", "See the server's log.")
        self._discard()
        self._board.conclude(record, "failed", error)

    def _oversee(self, record: Record, over: threading.Event) -> None:
        """End a job that takes more time or memory than it may."""
        limit = self._board.limit(record)

        def left() -> float:
            return LOOK if (since := self._since) is None else since + limit - time.monotonic()

        while not over.wait(max(0.0, min(LOOK, left()))):
            self._board.note(record, beat=True)
            worker = self._worker
            if left() <= 0:
                self._board.conclude(record, "failed", _timed_out(limit), end=True)
                return
            if self._memory and worker is not None and worker.memory() > self._memory:
                self._board.conclude(record, "failed", _too_large(self._memory), end=True)
                return

    def _ready(self) -> Worker:
        """A living worker, started if need be. Raises ``WorkerDied`` if that fails."""
        if self._worker is not None and self._worker.alive():
            return self._worker
        self._discard()
        worker = self._start_worker()
        with self._board.changed:
            self._worker, self._used = worker, False
            closed = self._board.closed
        if closed:  # ``join`` has not seen this one
            worker.end()
        return worker

    def _discard(self) -> None:
        """End the worker. Another one is started with the next job, or at once where it shall be warm."""
        with self._board.changed:
            worker, self._worker = self._worker, None
            self._warm_wanted = self._warm_wanted or (self._keep_warm and worker is not None)
        if worker is not None:
            worker.end()
            worker.close()


class _NeverBegan(Exception):
    """A job that a worker was given and did not begin."""

    def __init__(self, death: WorkerDied) -> None:
        self.death = death


def _timed_out(limit: float) -> TimedOut:
    said = f"{limit:g} s" if limit < 120 else f"{limit / 60:g} minutes"
    return TimedOut(
        f"The job was ended at the time limit of {said}.",
        "Choose a smaller model, or fewer tokens or precisions; who runs the server can raise QFUND_TIME_LIMIT.",
    )


def _too_large(limit: int) -> OutOfBudget:
    return OutOfBudget(
        f"The job was ended at the memory limit of {bytes_text(limit)}.",
        "Choose a smaller model, a shorter context or fewer tokens; who runs the server can raise QFUND_WORKER_GIB.",
    )
