"""A job at one moment, who waits for it, and the place where its moments follow each other."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from qfund.core.errors import QfundError
from qfund.core.request import Request
from qfund.engine.kinds import kind_of

if TYPE_CHECKING:
    from qfund.engine.jobs import Jobs
    from qfund.engine.lane import Lane

State = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
#: Seconds after which somebody who only watches a job, and has not looked again, is taken to have gone.
GONE = 10.0


#: Why a job was begun again.
RESTARTED = "Started again after a restart"
GONE_MACHINE = "Started again: the machine that ran it is gone"
KILLED = "Started again: its worker was killed"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who asks for jobs.

    Attributes:
        id: tells one from another, and nothing else about them: a hash. Empty: nobody in particular, without a quota.
        address: of the network, where it is known; several visitors may share one.
    """

    id: str = ""
    address: str | None = None


NOBODY = Visitor()


@dataclass(frozen=True, slots=True)
class Job:
    """A job at one moment; ask ``Jobs`` again for a later one.

    Attributes:
        state: ``lost`` where the server was ended in the middle of it, and not for the first time.
        phase, share: what the worker is doing, and the share of the whole that is done, 0 to 1.
        texts: what it has written so far, by the name of who wrote it (a precision).
        so_far: the result of what has been done, if it tells any before the end.
        begun: when the first share was told, and which: what is left can be told from there on.
        position: 1 for the next one to run, 0 for one that does not wait.
        wait: seconds until it will be its turn, from how long others took; None where that cannot be said.
        visitors: how many submissions are served by this job.
        others: how many wait for it besides whoever asked for this moment.
        abandoned: whether whoever asked for this moment has left it to the others.
        attempts: how often it was begun; more than once where what did it was ended in the middle.
        again: why it was begun once more, where it was.
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
    wait: float | None = None
    visitors: int = 1
    others: int = 0
    abandoned: bool = False
    attempts: int = 1
    again: str = RESTARTED
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


class Record:
    """The place where a job's moments follow each other, and who waits for it.

    Attributes:
        quick: whether it is of a kind that takes a moment and little memory.
        owners: who asked for it; they count until they leave it, whether they look or not.
        lane: where it runs or ran.
        rests: the monotonic time until which it is not begun.
    """

    def __init__(self, job: Job, owner: Visitor = NOBODY) -> None:
        self.job = job
        self.quick = kind_of(job.request).quick
        self.owners = [owner]
        self.lane: Lane | None = None
        self.rests = 0.0
        self._watching: dict[str, float] = {}  # id of a visitor → when seen last
        self._left: set[str] = set()

    def join(self, visitor: Visitor) -> None:
        """By asking for the same."""
        self.job = replace(self.job, visitors=self.job.visitors + 1)
        self._left.discard(visitor.id)
        if all(owner.id != visitor.id for owner in self.owners):
            self.owners.append(visitor)

    def watch(self, visitor: Visitor) -> None:
        """By looking at it, until that is some seconds ago."""
        if visitor.id and visitor.id not in self._left:
            self._watching[visitor.id] = time.monotonic()

    def leave(self, visitor: Visitor) -> None:
        self.owners = [owner for owner in self.owners if owner.id != visitor.id]
        self._watching.pop(visitor.id, None)
        self._left.add(visitor.id)

    def others(self, visitor: Visitor) -> int:
        """How many wait for it besides this one."""
        since = time.monotonic() - GONE
        present = {each for each, seen in self._watching.items() if seen >= since}
        return len((present | {owner.id for owner in self.owners}) - {visitor.id})

    def seen_by(self, visitor: Visitor) -> Job:
        return replace(self.job, others=self.others(visitor), abandoned=visitor.id in self._left)


@dataclass(frozen=True, slots=True)
class Desk:
    """Jobs as one visitor asks for them."""

    _jobs: "Jobs"
    _visitor: Visitor

    def submit(self, request: Request) -> Job:
        return self._jobs.submit(request, self._visitor)

    def get(self, key: str) -> Job | None:
        return self._jobs.get(key, self._visitor)

    def wait(self, key: str, timeout: float | None = None) -> Job | None:
        return self._jobs.wait(key, timeout)

    def cancel(self, key: str) -> bool:
        return self._jobs.cancel(key, self._visitor)

    def warm(self) -> None:
        self._jobs.warm()
