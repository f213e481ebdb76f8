"""The queue of jobs in the web server: one worker process, one job at a time, equal jobs computed once."""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from qfund.core.errors import Cancelled, EngineError, QfundError, QueueFull, TimedOut, UsageError, WorkerDied
from qfund.core.request import Request
from qfund.engine import Identify, keep, key_of, messages, unfinished
from qfund.engine.kinds import kind_of
from qfund.engine.process import Process

if TYPE_CHECKING:
    from qfund.engine.store import Store

CAPACITY = 8  # jobs that may wait
TIME_LIMIT = 1800.0  # seconds
#: Finished jobs that are remembered, and how many of them may hold a result (the store has them all).
KEEP_FINISHED = 50
KEEP_RESULTS = 8
COMMAND = (sys.executable, "-m", "qfund.engine.worker")

State = Literal["queued", "running", "done", "failed", "cancelled"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A job at one moment; ask ``Jobs`` again for a later one.

    Attributes:
        phase, share: what the worker is doing, and the share of the whole that is done, 0 to 1.
        texts: what it has written so far, by the name of who wrote it (a precision).
        so_far: the result of what has been done, if it tells any before the end.
        begun: when the first share was told, and which: what is left can be told from there on.
        position: 1 for the next one to run, 0 for one that does not wait.
        visitors: how many submissions are served by this job.
        submitted, started, finished: seconds since the epoch.
        error: why it failed or was cancelled.
        result: when done, of the type that the request's kind has; ``warning`` says why it could not be saved.
    """

    key: str
    request: Request
    state: State = "queued"
    phase: str = ""
    share: float = 0.0
    texts: Mapping[str, str] = field(default_factory=dict)
    so_far: Any = None
    begun: tuple[float, float] | None = None
    position: int = 0
    visitors: int = 1
    submitted: float = 0.0
    started: float | None = None
    finished: float | None = None
    error: QfundError | None = None
    result: Any = None
    warning: str | None = None

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    def left(self, now: float) -> float | None:
        """Seconds that it will take from ``now`` on if it goes on as it did; None where that cannot be said yet."""
        if self.begun is None or self.state != "running":
            return None
        since, first = self.begun
        done = self.share - first
        return (now - since) * (1 - self.share) / done if done > 0.02 and now - since > 2 else None


class _Record:
    """The place where a job's moments follow each other."""

    def __init__(self, job: Job) -> None:
        self.job = job


class Jobs:
    """Thread-safe; one lives as long as the web server. Nothing is started before the first ``submit`` or ``warm``.

    Args:
        store: where results are kept.
        command: how a worker is started.
        capacity: how many jobs may wait; None reads ``QFUND_QUEUE`` (8 if unset).
        time_limit: seconds that a job may run; None reads ``QFUND_TIME_LIMIT`` (1800 if unset).
        identify: in place of what the kinds name.

    Raises:
        UsageError: a setting that is no number above 0.
    """

    def __init__(
        self,
        store: "Store",
        *,
        command: Sequence[str] = COMMAND,
        capacity: int | None = None,
        time_limit: float | None = None,
        identify: Identify | None = None,
    ) -> None:
        self._store = store
        self._command = tuple(command)
        self._capacity = int(_setting("QFUND_QUEUE", CAPACITY) if capacity is None else capacity)
        self._time_limit = _setting("QFUND_TIME_LIMIT", TIME_LIMIT) if time_limit is None else time_limit
        self._identify = identify
        # Guards everything below; notified whenever a job changes or there is something to do.
        self._changed = threading.Condition()
        self._records: dict[str, _Record] = {}  # finished ones in the order in which they finished
        self._queue: deque[_Record] = deque()
        self._worker: Process | None = None
        self._thread: threading.Thread | None = None
        self._keep_warm = self._warm_wanted = False
        self._closed = False

    def submit(self, request: Request) -> Job:
        """Ask for a measurement. An equal one that waits or runs is joined; a finished one is computed anew.

        Raises:
            QueueFull: too many wait.
            QfundError: a malformed request, or a model that is not there.
        """
        key = key_of(request, self._identify)
        with self._changed:
            if self._closed:
                raise EngineError("The server is shutting down.", "Try again in a moment.")
            record = self._records.get(key)
            if record is not None and record.job.active:
                self._set(record, visitors=record.job.visitors + 1)
                return self._moment(record)
            running = any(record.job.state == "running" for record in self._records.values())
            waiting = len(self._queue) - (not running)  # where none runs, the first in the queue is about to
            if waiting >= self._capacity:
                raise QueueFull(f"The queue is full ({waiting} waiting).", "Try again in a few minutes.")
            record = _Record(Job(key, kind_of(request).checked(request), submitted=time.time()))
            self._records.pop(key, None)
            self._records[key] = record
            self._queue.append(record)
            self._start()
            return self._moment(record)

    def find(self, request: Request) -> Job | None:
        """The latest job for ``request``, if it is remembered. Raises as ``key_of``."""
        return self.get(key_of(request, self._identify))

    def get(self, key: str) -> Job | None:
        """The latest job of that key, if it is remembered."""
        with self._changed:
            record = self._records.get(key)
            return None if record is None else self._moment(record)

    def wait(self, key: str, timeout: float | None = None) -> Job | None:
        """The job of that key when it has finished, or as it is after ``timeout`` seconds."""
        with self._changed:
            record = self._records.get(key)
            if record is None:
                return None
            self._changed.wait_for(lambda: not record.job.active, timeout)
            return self._moment(record)

    def cancel(self, key: str) -> bool:
        """End a job, for all who wait for it; False if none of that key waits or runs."""
        error = Cancelled("The job was cancelled.", "Start it again.")
        with self._changed:
            record = self._records.get(key)
            if record is None or not record.job.active:
                return False
            worker = self._conclude(record, "cancelled", error)
        if worker is not None:
            worker.end()
        return True

    def warm(self) -> None:
        """Start a worker, when nothing else is to be done, and let it import what the first job needs."""
        with self._changed:
            if not self._closed:
                self._keep_warm = self._warm_wanted = True
                self._start()

    def close(self) -> None:
        """Cancel everything and end the worker."""
        error = Cancelled("The server was shut down.", "Start it again in a moment.")
        with self._changed:
            self._closed = True
            for record in [record for record in self._records.values() if record.job.active]:
                self._conclude(record, "cancelled", error)
            worker, thread = self._worker, self._thread
            self._changed.notify_all()
        if worker is not None:
            worker.end()
        if thread is not None:
            thread.join()

    # Below, methods that say "locked" are called with the lock held.

    def _moment(self, record: _Record) -> Job:
        """Locked."""
        return replace(record.job, position=self._queue.index(record) + 1 if record in self._queue else 0)

    def _set(self, record: _Record, **changes: Any) -> None:
        """Locked."""
        record.job = replace(record.job, **changes)
        self._changed.notify_all()

    def _start(self) -> None:
        """Locked."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="qfund-jobs", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _conclude(self, record: _Record, state: State, error: QfundError | None = None, **more: Any) -> Process | None:
        """Locked. Finish an active job. Returns the worker that runs it, for the caller to end unless all went well."""
        running = record.job.state == "running"
        if not running:
            self._queue.remove(record)
        self._set(record, state=state, error=error, finished=time.time(), so_far=None, **more)  # the store has that
        if self._records.get(record.job.key) is record:
            del self._records[record.job.key]
            self._records[record.job.key] = record
        self._forget()
        return self._worker if running else None

    def _forget(self) -> None:
        """Locked. Drop the oldest of too many finished jobs."""
        finished = [record.job for record in self._records.values() if not record.job.active]
        with_result = [job for job in finished if job.result is not None]
        for job in (
            finished[: max(0, len(finished) - KEEP_FINISHED)] + with_result[: max(0, len(with_result) - KEEP_RESULTS)]
        ):
            self._records.pop(job.key, None)

    # The thread that runs the jobs.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._warm_wanted or self._closed)
                if self._closed:
                    break
                record = self._queue.popleft() if self._queue else None
                if record is not None:
                    self._set(record, state="running", phase="Starting a worker", started=time.time())
                self._warm_wanted = False
            try:
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

    def _perform(self, record: _Record) -> None:
        worker = self._ready()
        if not record.job.active:  # cancelled meanwhile, and whoever did it may be ending this worker
            self._discard()
            return
        timer = threading.Timer(self._time_limit, self._time_out, (record,))
        timer.daemon = True
        timer.start()
        try:
            result, failed = self._follow(worker, record)
        finally:
            timer.cancel()
        if failed is None:
            # First the store, so that whoever sees the job done finds the result there too.
            warning = keep(self._store, record.job.key, record.job.request, result, self._identify)
            with self._changed:
                over = not record.job.active
                if not over:
                    self._conclude(record, "done", phase="Done", share=1.0, result=result, warning=warning)
        else:
            with self._changed:
                over = not record.job.active
                if not over:
                    self._conclude(record, "failed", failed.exception())
        if over or (failed is not None and failed.spent):
            # Another thread has concluded the job and is ending the worker, perhaps only in a moment.
            self._discard()

    def _follow(self, worker: Process, record: _Record) -> tuple[Any, messages.Failed | None]:
        """Let the worker do the job, and listen: the result, or why there is none.

        Raises:
            WorkerDied: if it does not get to the end.
        """
        try:
            kind = kind_of(record.job.request)
            worker.send(messages.Measure(kind.name, messages.document(record.job.request)))
            for event in worker.events():
                if isinstance(event, messages.Failed):
                    return None, event
                if isinstance(event, messages.Done):
                    return kind.read_result(event.result), None
                if isinstance(event, messages.Progress):
                    with self._changed:
                        if record.job.active:
                            begun = record.job.begun or ((time.time(), event.share) if event.share else None)
                            self._set(record, phase=event.phase, share=event.share, begun=begun)
                if isinstance(event, messages.SoFar):
                    so_far = kind.read_result(event.result)
                    unfinished.keep(self._store, kind, record.job.key, so_far)
                    with self._changed:
                        if record.job.active:
                            self._set(record, so_far=so_far)
                if isinstance(event, messages.Partial):
                    with self._changed:
                        if record.job.active:
                            self._set(record, texts=event.texts)
        except msgspec.DecodeError as error:
            _log.error("The worker sent what cannot be read: %s", error)
            raise WorkerDied("The worker sent what cannot be read.", "See the log; then start it again.") from error
        except OSError as error:
            _log.warning("The worker is gone: %s", error)
        worker.end(patience=5.0)
        raise worker.death()

    def _fail(self, record: _Record, error: Exception) -> None:
        if not isinstance(error, QfundError):
            _log.error("A job failed in the server", exc_info=error)
            error = EngineError(f"The job failed unexpectedly: {type(error).__name__}.", "See the server's log.")
        self._discard()
        with self._changed:
            if record.job.active:
                self._conclude(record, "failed", error)

    def _time_out(self, record: _Record) -> None:
        limit = f"{self._time_limit:g} s" if self._time_limit < 120 else f"{self._time_limit / 60:g} minutes"
        error = TimedOut(
            f"The job was ended at the time limit of {limit}.",
            "Choose a smaller model, or fewer tokens or precisions; who runs the server can raise QFUND_TIME_LIMIT.",
        )
        with self._changed:
            worker = self._conclude(record, "failed", error) if record.job.active else None
        if worker is not None:
            worker.end()

    def _ready(self) -> Process:
        """A living worker, started if need be. Raises ``WorkerDied`` if that fails."""
        if self._worker is not None and self._worker.alive():
            return self._worker
        self._discard()
        worker = Process(self._command)
        with self._changed:
            self._worker = worker
            closed = self._closed
        if closed:  # ``close`` has not seen this one
            worker.end()
        return worker

    def _discard(self) -> None:
        """End the worker. Another one is started with the next job, or at once where it shall be warm."""
        with self._changed:
            worker, self._worker = self._worker, None
            self._warm_wanted = self._warm_wanted or (self._keep_warm and worker is not None)
        if worker is not None:
            worker.end()
            worker.close()


def _setting(name: str, default: float) -> float:
    given = os.environ.get(name)
    if not given:
        return default
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf") or (name == "QFUND_QUEUE" and value != int(value)):
        raise UsageError(f"{name} is {given!r}.", "Set it to a number above 0.")
    return value
