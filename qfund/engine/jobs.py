"""The jobs of a web server: who asks for what, whose turn it is, and what became of it. Equal ones are computed once,
long ones one at a time unless there is a cluster, and quick ones never wait behind those."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qfund.core.errors import Cancelled, EngineError, QfundError
from qfund.core.request import Request
from qfund.engine import Identify, keep, key_of, settings, unfinished
from qfund.engine import cluster as clusters
from qfund.engine.cluster import Cluster
from qfund.engine.durations import Durations, until_free
from qfund.engine.job import NOBODY, Desk, Job, Record, State, Visitor
from qfund.engine.kinds import kind_of
from qfund.engine.lane import Lane, Worker
from qfund.engine.process import Process
from qfund.engine.shared.watch import Watch
from qfund.engine.turns import Turns

if TYPE_CHECKING:
    from qfund.engine.shared.ledger import Ledger
    from qfund.engine.store import Store

__all__ = ["Desk", "Job", "Jobs"]

#: Finished jobs that are remembered, and how many of them may hold a result (the store has them all).
KEEP_FINISHED = 50
KEEP_RESULTS = 8
TIDY = 3600.0  # seconds
EVERY = 0.5  # seconds between two looks at a job that another server has
COMMAND = (sys.executable, "-m", "qfund.engine.worker")

_log = logging.getLogger(__name__)


class Jobs:
    """Thread-safe; one lives as long as the web server. Nothing is started before the first ``submit`` or ``warm``.

    There are two lanes, each with a worker of its own. The second one takes quick jobs (``Kind.quick``), while the
    first one is busy with a long one; so where one person asks for one thing after another, there is one worker. With
    a cluster there are many first ones, which hand long jobs over to it, and quick ones all stay here.

    Args:
        store: where results are kept.
        command: how a worker is started.
        cluster: where long jobs run; None reads ``QFUND_ENGINE``.
        capacity: how many jobs may wait, of the long ones and of the quick ones; None reads ``QFUND_QUEUE``.
        places: how many of one visitor may wait or run; None reads ``QFUND_PLACES``.
        time_limit: seconds that a job may run; None reads ``QFUND_TIME_LIMIT``.
        memory: bytes that the worker may take; None reads ``QFUND_WORKER_GIB``.
        identify: in place of what the kinds name.
        ledger: where jobs that take long are written down; None for nowhere.

    Raises:
        UsageError: a setting that is no number above 0.
    """

    def __init__(
        self,
        store: "Store",
        *,
        command: Sequence[str] = COMMAND,
        cluster: Cluster | None = None,
        capacity: int | None = None,
        places: int | None = None,
        time_limit: float | None = None,
        memory: int | None = None,
        identify: Identify | None = None,
        ledger: "Ledger | None" = None,
    ) -> None:
        given = settings.read()
        capacity, places = capacity or given.capacity, places or given.places
        memory = given.memory if memory is None else memory
        self._store = store
        self._time_limit = given.time_limit if time_limit is None else time_limit
        self._identify = identify
        self._ledger = ledger
        self._watch = Watch(store, self.resume, self._look_around)
        self._claims = ledger.turns_over_all(self._unlike) if ledger is not None else None
        self._called = False  # whether this server may do what waits at another one
        #: Called with each job that is over, with the lock held: only for what counts.
        self.on_end: list[Callable[[Job], object]] = []
        self._untidy = 0.0
        # Guards everything below; notified whenever a job changes or there is something to do.
        self.changed = threading.Condition()
        self.closed = False
        self._records: dict[str, Record] = {}  # finished ones in the order in which they finished
        self._long, self._quick = Turns(capacity, places), Turns(capacity, settings.QUICK_PLACES * places)
        self._durations = Durations()
        for kind, model, seconds in ledger.durations() if ledger is not None else ():
            self._durations.note(kind, model, seconds)

        def start() -> Worker:
            return Process(command)

        def hand_over() -> Worker:
            return Process(self._cluster.command) if self._cluster else start()

        self._cluster = cluster or clusters.chosen()
        if self._cluster is None:
            self._lanes = [Lane("long", self, start, memory=memory)]
        else:
            names = [f"cluster {number}" for number in range(1, self._cluster.at_once + 1)]
            self._lanes = [Lane(name, self, hand_over, stays=name == names[0], hands_over=True) for name in names]
        quick_memory = int(memory * settings.QUICK_SHARE)
        self._second = Lane("quick", self, start, memory=quick_memory, stays=False)

    def submit(self, request: Request, visitor: Visitor = NOBODY) -> Job:
        """Ask for a measurement. An equal one that waits or runs is joined; a finished one is computed anew.

        Raises:
            QueueFull: too many wait, or too many of this visitor's.
            QfundError: a malformed request, or a model that is not there.
        """
        key = key_of(request, self._identify)
        record = Record(Job(key, kind_of(request).checked(request), submitted=time.time()), visitor)
        if (joined := self._join(record, visitor)) is not None:
            return joined
        if self._ledger is not None and not record.quick and (elsewhere := self._ledger.claim(record)) is not None:
            return elsewhere
        with self.changed:
            if (joined := self._join(record, visitor, admit=False)) is not None:  # somebody else was faster
                return joined
            self._add(record)
            return self._moment(record, visitor)

    def _join(self, record: Record, visitor: Visitor, *, admit: bool = True) -> Job | None:
        """The equal job that waits or runs, which ``visitor`` waits for too from now on. Raises as ``submit``."""
        ledger = self._ledger if admit and not record.quick else None
        elsewhere = ledger.places(visitor) if ledger is not None else 0
        with self.changed:
            if self.closed:
                raise EngineError("The server is shutting down.", "Try again in a moment.")
            there = self._records.get(record.job.key)
            if there is not None and there.job.active:
                there.join(visitor)
                self.changed.notify_all()
                moment = self._moment(there, visitor)
            else:
                if admit:
                    self._turns(record).admit(visitor, elsewhere)
                return None
        if self._claims is not None and len(there.owners) > 1:  # it stays at this server, which knows who waits for it
            self.note(there)
        return moment

    def resume(self, key: str | None = None) -> bool:
        """Begin again what servers that are gone have left, of that key or all. False if there was nothing."""
        found = self._ledger.take_over(key) if self._ledger is not None else []
        for job, visitor in found:
            record = Record(job, visitor)
            problem = self._unlike(job)
            with self.changed:
                there = self._records.get(job.key)
                if problem is None and not self.closed and not (there is not None and there.job.active):
                    self._add(record)
            if problem is not None:
                record.job = replace(job, state="failed", error=problem, finished=time.time())
                self.note(record)
        return bool(found)

    def look_after(self) -> None:
        """From now on also without being asked: begin again what other servers leave, in a database that they share."""
        self.resume()
        if self._ledger is not None and self._store.shared:
            self._watch.look_after()

    def _tidy(self) -> None:
        """Now and then, what a server does for its store."""
        if self._ledger is None or time.monotonic() < self._untidy:
            return
        self._untidy = time.monotonic() + TIDY
        from qfund.engine import upkeep

        try:
            upkeep.tidy(self._store)
        except QfundError as error:
            _log.warning("The store is not tidied. %s", error)

    def _unlike(self, job: Job) -> QfundError | None:
        """Why a job that was written down cannot be done as it was meant."""
        try:
            if key_of(job.request, self._identify) == job.key:
                return None
        except QfundError as error:
            return error
        return EngineError("The model changed before this job was done.", "Start it again.")

    def find(self, request: Request) -> Job | None:
        """The latest job for ``request``, if it is remembered. Raises as ``key_of``."""
        return self.get(key_of(request, self._identify))

    def get(self, key: str, visitor: Visitor = NOBODY) -> Job | None:
        """The latest job of that key, if it is remembered. ``visitor`` watches it from now on."""
        with self.changed:
            record = self._records.get(key)
            if record is not None:
                record.watch(visitor)
                return self._moment(record, visitor)
        if self._ledger is None or (written := self._ledger.find(key)) is None:
            return None
        job, left = written
        if left and self.resume(key):
            return self.get(key, visitor)
        places = self._claims.places if self._claims is not None else {}
        return replace(job, others=1, position=places.get(key, 0))  # at work elsewhere, or over

    def wait(self, key: str, timeout: float | None = None) -> Job | None:
        """The job of that key when it has finished, or as it is after ``timeout`` seconds; None if it is not known
        here, or has finished at another server."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            with self.changed:
                if (record := self._records.get(key)) is not None:
                    self.changed.wait_for(
                        lambda: not record.job.active or self._records.get(key) is not record,
                        timeout and max(end - time.monotonic(), 0.0),
                    )
                    if self._records.get(key) is record or not record.job.active:
                        return self._moment(record)
            job = self.get(key)
            if job is None or not job.active or time.monotonic() >= end:
                return job
            time.sleep(EVERY)

    def active(self) -> list[tuple[Job, bool]]:
        """Those that wait or run, each with whether it is of a quick kind."""
        with self.changed:
            return [(record.job, record.quick) for record in self._records.values() if record.job.active]

    def workers(self) -> dict[str, int]:
        """Lane → the process that works there."""
        pids = {lane.name: getattr(lane.worker, "pid", None) for lane in (*self._lanes, self._second)}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def cancel(self, key: str, visitor: Visitor = NOBODY) -> bool:
        """Leave a job, which ends it unless others wait for it; nobody in particular ends it for all who do. False if
        none of that key waits or runs, or it goes on."""
        with self.changed:
            record = self._records.get(key)
            if record is None or not record.job.active:
                return self._ledger is not None and self._ledger.cancel(key, visitor, _cancelled())
            if visitor.id:
                record.leave(visitor)
                if record.others(visitor):
                    return False
        return self.conclude(record, "cancelled", _cancelled(), end=True)

    def warm(self) -> None:
        """Start a worker, when nothing else is to be done, and let it import what the first job needs."""
        with self.changed:
            if not self.closed:
                self._lanes[0].warm()
                self.changed.notify_all()

    def close(self) -> None:
        """Cancel everything and end the workers."""
        error = Cancelled("The server was shut down.", "Start it again in a moment.")
        if self._ledger is not None:  # or one that is being written down would be cancelled there too
            self._ledger.freeze()
        with self.changed:
            self.closed = True
            for record in [record for record in self._records.values() if record.job.active]:
                self._conclude(record, "cancelled", error)
            self.changed.notify_all()
        for lane in (*self._lanes, self._second):
            lane.join()
        self._watch.close()
        if self._ledger is not None:  # which has them as they were: another server goes on
            self._ledger.close()

    # What the lanes ask and tell (``qfund.engine.lane.Board``).

    def due(self, lane: Lane) -> bool:
        if lane is self._second:
            return bool(self._quick.ready() and (self._long.running or self._cluster))
        return bool(self._called or self._long.ready() or (self._quick.ready() and not self._cluster))

    def take(self, lane: Lane) -> Record | None:
        with self.changed:
            if not self.due(lane):
                return None
            self._called = False
            record = self._quick.take() if lane is self._second or not self._cluster else None
            if record is None and self._claims is None:
                record = self._long.take()
            waiting = {each.job.key: each for each in self._long.ready()}
        theirs, gone = self._claims.take(waiting) if record is None and self._claims is not None else (None, [])
        with self.changed:
            self._lose(gone)
            if self.closed:
                return None
            if theirs is not None and theirs.job.active:
                if theirs not in self._long:
                    self._records.pop(theirs.job.key, None)
                    self._records[theirs.job.key] = theirs
                    self._long.add(theirs)
                record = self._long.take(theirs)
            elif record is None and self._claims is not None:  # the database does not know those, or does not answer
                record = self._long.take()
            if record is not None:
                record.lane = lane
                self._set(record, state="running", phase="Starting a worker", started=time.time())
            return record

    def _look_around(self) -> None:
        """Let go of what other servers do that waited here, and call for what this one may do that waits there."""
        if self._claims is None:
            return
        with self.changed:
            waiting = self._long.order()
        gone, more = self._claims.look(waiting)
        with self.changed:
            self._lose(gone)
            if more and not self.closed and not len(self._long) and len(self._long.running) < len(self._lanes):
                self._called = True
                self._lanes[len(self._long.running)].start()
                self.changed.notify_all()

    def limit(self, record: Record) -> float:
        return min(self._time_limit, settings.QUICK_TIME_LIMIT) if record.quick else self._time_limit

    def tell(self, record: Record, **changes: Any) -> None:
        with self.changed:
            if record.job.active:
                self._set(record, **changes)

    def share(self, record: Record, so_far: Any) -> None:
        unfinished.keep(self._store, kind_of(record.job.request), record.job.key, so_far)
        self.tell(record, so_far=so_far)

    def note(self, record: Record, *, beat: bool = False) -> None:
        if self._ledger is None or record.quick or self.closed:
            return
        by = (self._ledger.beat if beat else self._ledger.write)(record)
        if by is not None and not self.cancel(record.job.key, by) and record.job.active:  # at another server
            self._ledger.revive(record)

    def put_back(self, record: Record, rest: float) -> None:
        with self.changed:
            if record.job.active:
                record.lane, record.rests = None, time.monotonic() + rest
                self._turns(record).put_back(record)
                self._set(record, state="queued", started=None)
        self.note(record)
        awake = threading.Timer(rest, self._wake)
        awake.daemon = True
        awake.start()

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def done(self, record: Record, result: Any) -> bool:
        job, late = record.job, False

        def hold() -> None:
            nonlocal late
            if late := self._ledger is not None and self._store.shared:
                self._watch.hold(kind_of(job.request), job.key, result, kept)

        def kept() -> None:
            with self.changed:
                self._set(record, warning=None)

        # First the store, so that whoever sees the job done finds the result there too.
        warning = keep(self._store, job.key, job.request, result, self._identify, hold)
        with self.changed:
            if not record.job.active:
                return False
            self._conclude(record, "done", phase="Done", share=1.0, result=result, warning=warning)
        if not late:  # else it is done, as others see it, once the database has the result
            self.note(record)
        self._tidy()
        return True

    def conclude(self, record: Record, state: State, error: QfundError, *, end: bool = False) -> bool:
        with self.changed:
            if not record.job.active:
                return False
            worker = record.lane.worker if record.lane is not None else None
            self._conclude(record, state, error)
        if end and worker is not None:
            worker.end()
        self.note(record)
        return True

    # All below is called with the lock held.

    def _turns(self, record: Record) -> Turns:
        return self._quick if record.quick else self._long

    def _lose(self, gone: Sequence[Record]) -> None:
        """Other servers have these."""
        for record in gone:
            if record in self._long:
                self._long.remove(record)
                if self._records.get(record.job.key) is record:
                    del self._records[record.job.key]
        if gone:
            self.changed.notify_all()

    def _add(self, record: Record) -> None:
        """A new one to the queue."""
        self._records.pop(record.job.key, None)
        self._records[record.job.key] = record
        self._turns(record).add(record)
        if self._cluster is None or not record.quick:
            for lane in self._lanes[: len(self._long) + len(self._long.running) or 1]:
                lane.start()
        if record.quick and (self._long.running or self._cluster):
            self._second.start()
        self.changed.notify_all()

    def _moment(self, record: Record, visitor: Visitor = NOBODY) -> Job:
        seen = record.seen_by(visitor)
        if seen.state != "queued":
            return seen
        turns = self._turns(record)
        order = turns.order()
        before = order[: order.index(record)]
        running = [self._left(each) for each in turns.running]
        waiting = [self._durations.expect(each.job.request) for each in before]
        lanes = 1 if record.quick else len(self._lanes)
        position, wait = len(before) + 1, until_free(running, waiting, lanes)
        if self._claims is not None and not record.quick:
            over_all = self._claims.places.get(record.job.key, position)
            position, wait = over_all, wait if over_all == position else None  # how long others' take is not known
        return replace(seen, position=position, wait=wait)

    def _left(self, record: Record) -> float | None:
        """Seconds that one which runs will take."""
        now = time.time()
        usual = self._durations.expect(record.job.request)
        if (told := record.job.left(now)) is not None or usual is None:
            return told
        return max(usual - (now - (record.job.started or now)), 0.0)

    def _set(self, record: Record, **changes: Any) -> None:
        record.job = replace(record.job, **changes)
        self.changed.notify_all()

    def _conclude(self, record: Record, state: State, error: QfundError | None = None, **more: Any) -> None:
        """Finish an active job."""
        self._turns(record).remove(record)
        self._set(record, state=state, error=error, finished=time.time(), so_far=None, **more)  # the store has that
        job = record.job
        if state == "done" and job.started is not None and job.finished is not None:
            self._durations.note(kind_of(job.request).name, job.request.model, job.finished - job.started)
        if self._records.get(job.key) is record:
            del self._records[job.key]
            self._records[job.key] = record
        self._forget()
        for tell in self.on_end:
            tell(job)

    def _forget(self) -> None:
        """Drop the oldest of too many finished jobs."""
        finished = [record.job for record in self._records.values() if not record.job.active]
        with_result = [job for job in finished if job.result is not None]
        for job in (
            finished[: max(0, len(finished) - KEEP_FINISHED)] + with_result[: max(0, len(with_result) - KEEP_RESULTS)]
        ):
            self._records.pop(job.key, None)


def _cancelled() -> Cancelled:
    return Cancelled("The job was cancelled.", "Start it again.")
