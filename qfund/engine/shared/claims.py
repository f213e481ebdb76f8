"""Whose turn it is among all who wait at servers that share a database, and which server does that job: one that has
nothing else to do takes it, wherever it was asked for."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from qfund.core.errors import QfundError
from qfund.engine.job import Job, Record, Visitor
from qfund.engine.tables import JOBS

if TYPE_CHECKING:
    from qfund.engine.shared.ledger import Ledger

#: Seconds after which whoever was served is as good as new.
REMEMBERED = 3600.0


def address_of(visitor: Visitor) -> str:
    """What tells one network address from another as a rule, and can belong to thousands: nothing is known by it."""
    return hashlib.sha256((visitor.address or visitor.id).encode()).hexdigest()[:4]


def in_turn(connection: sa.Connection, at: float) -> list[sa.RowMapping]:
    """Jobs that no server has begun, the next one first: of the address that was served longest ago, and among its
    visitors of the one who was."""
    began = JOBS.c.started > at - REMEMBERED
    own = sa.func.coalesce(JOBS.c.address, JOBS.c.visitor)
    addresses = sa.select(own.label("name"), sa.func.max(JOBS.c.started).label("last")).where(began).group_by(own)
    visitors = (
        sa.select(JOBS.c.visitor.label("name"), sa.func.max(JOBS.c.started).label("last"))
        .where(began)
        .group_by(JOBS.c.visitor)
    )
    address, visitor = addresses.subquery(), visitors.subquery()
    joined = JOBS.outerjoin(address, address.c.name == own).outerjoin(visitor, visitor.c.name == JOBS.c.visitor)
    longest = (sa.func.coalesce(each.c.last, 0.0) for each in (address, visitor))
    wanted = (
        sa.select(JOBS)
        .select_from(joined)
        .where(JOBS.c.state == "queued", JOBS.c.started.is_(None))
        .order_by(*longest, JOBS.c.submitted, JOBS.c.key)
    )
    return list(connection.execute(wanted).mappings())


class Claims:
    """Not thread-safe but for ``places``.

    Args:
        unlike: why a job that was asked for elsewhere cannot be done here as it was meant.
    """

    def __init__(self, ledger: "Ledger", unlike: Callable[[Job], QfundError | None]) -> None:
        self._ledger = ledger
        self._unlike = unlike
        self._strange: set[str] = set()  # keys of jobs that cannot be done here
        #: Key → its place among all that wait, from 1, as it was when somebody looked last.
        self.places: dict[str, int] = {}

    def take(self, waiting: Mapping[str, Record]) -> tuple[Record | None, list[Record]]:
        """The next one of all, begun by this server from now on, and those of ``waiting`` that others have taken.

        Args:
            waiting: key → one that waits here and may begin.
        """
        gone: list[Record] = []
        for job, visitor, server in self._waiting():
            if (record := waiting.get(job.key)) is None and not self._may(job, server):
                continue
            begun = self._ledger.begin(job.key, server)
            if begun is None:
                break
            if begun:
                return record or Record(replace(job, visitors=1), visitor), gone
            if record is not None:
                gone.append(record)
        return None, [*gone, *self._gone(waiting.values())]

    def look(self, waiting: Iterable[Record]) -> tuple[list[Record], bool]:
        """Those of ``waiting`` that others have taken, and whether this server may take one that waits elsewhere."""
        listed = self._waiting()
        return self._gone(waiting), any(self._may(job, server) for job, _, server in listed)

    def _gone(self, waiting: Iterable[Record]) -> list[Record]:
        missing = {record.job.key: record for record in waiting if record.job.key not in self.places}
        return [missing[key] for key in self._ledger.elsewhere(missing)] if missing else []

    def _waiting(self) -> list[tuple[Job, Visitor, str]]:
        listed = self._ledger.in_turn()
        self.places = {job.key: place for place, (job, _, _) in enumerate(listed, 1)}
        self._strange &= self.places.keys()
        return listed

    def _may(self, job: Job, server: str) -> bool:
        """Whether another server's job may be done here."""
        if self._ledger.mine(server) or job.visitors > 1 or job.key in self._strange:
            return False
        if self._unlike(job) is not None:  # another machine has other files
            self._strange.add(job.key)
            return False
        return True
