"""Jobs as they are written down in the database, so that a server that is ended in the middle of one leaves word.

The latest job of each key has a row: what is asked, by whom (hashed), which server has it, and how far it is. A row
whose server is gone is anybody's, and exactly one server takes it over. A result that is stored ends its job in the
same transaction (``Store.put``), so nothing that was finished is done again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa

from qfund.core.errors import EngineError, QfundError, StoreError
from qfund.engine import messages, migrations
from qfund.engine.job import Job, Record, Visitor
from qfund.engine.kinds import KINDS, kind_of
from qfund.engine.process import ATTEMPTS
from qfund.engine.shared import claims, servers
from qfund.engine.store import now, up_since, upsert
from qfund.engine.tables import JOBS

if TYPE_CHECKING:
    from qfund.engine.store import Store

#: Seconds between two signs that a job goes on, and the same where other servers' visitors look on; and for which one
#: that failed is remembered.
BEAT, SHARED_BEAT, REMEMBERED = 10.0, 2.0, 86_400.0
_ACTIVE = ("queued", "running")

_log = logging.getLogger(__name__)
Found = TypeVar("Found")


class Ledger:
    """Thread-safe. A database that refuses is told of in the log, and the job goes on: it is only not written down."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._server = servers.begin()
        self._writing, self._frozen = threading.Lock(), False
        self._written: dict[str, float] = {}  # key → when its row was written last

    def freeze(self) -> None:
        """Jobs stay as they are written now, whatever becomes of them here."""
        with self._writing:
            self._frozen = True

    def close(self) -> None:
        """What this server has not finished is anybody's from now on."""
        servers.end(self._server)

    def claim(self, record: Record) -> Job | None:
        """Have the job written down as this server's; if another one has it, that job."""

        def change(connection: sa.Connection) -> Job | None:
            row = connection.execute(sa.select(JOBS).where(JOBS.c.key == record.job.key)).mappings().first()
            others = row is not None and row["state"] in _ACTIVE and row["server"] != self._server
            if row is not None and others and not _left(connection, row):
                return _job(row)
            upsert(connection, JOBS, self._row(record) | {"beat": now(connection)})
            return None

        return self._try(lambda: self._store.write(change, alone=True))

    def places(self, visitor: Visitor) -> int:
        """How many jobs of this visitor other servers have."""
        if not (self._store.shared and visitor.id):
            return 0
        theirs = (JOBS.c.visitor == visitor.id) & JOBS.c.state.in_(_ACTIVE) & (JOBS.c.server != self._server)
        wanted = sa.select(sa.func.count()).select_from(JOBS).where(theirs)

        def look(connection: sa.Connection) -> int:
            there = sa.inspect(connection).has_table(JOBS.name)
            return int(connection.execute(wanted).scalar_one()) if there else 0

        return self._try(lambda: self._store.read(look)) or 0

    def write(self, record: Record) -> Visitor | None:
        """The job as it is now. If it was cancelled at another server meanwhile, by whom."""
        with self._writing:  # so that the later moment is written later
            if self._frozen:
                return None
            job, row = record.job, self._row(record)
            self._written[job.key] = time.monotonic()
            if not job.active:
                self._written.pop(job.key, None)
            values = {name: value for name, value in row.items() if name not in ("key", "request", "beat", "address")}
            here, mine = JOBS.c.key == job.key, JOBS.c.server == self._server
            active = mine & JOBS.c.state.in_(_ACTIVE)

            def change(connection: sa.Connection) -> Visitor | None:
                at = now(connection)
                wanted = here & (active if job.active else mine)
                changed = connection.execute(sa.update(JOBS).where(wanted).values(values | {"beat": at})).rowcount
                connection.execute(sa.update(JOBS).where(active).values(beat=at))  # of those that wait too
                if changed or not job.active:
                    return None
                found = connection.execute(sa.select(JOBS).where(here)).mappings().first()
                if found is None:  # the database was away when it was claimed
                    upsert(connection, JOBS, row | {"beat": at})
                elif found["state"] == "cancelled" and found["server"] == self._server:
                    return Visitor(found["visitor"])
                return None

            return self._try(lambda: self._store.write(change))

    def beat(self, record: Record) -> Visitor | None:
        """As ``write``, but only every few seconds."""
        at = time.monotonic()
        if at - self._written.setdefault(record.job.key, at) < (SHARED_BEAT if self._store.shared else BEAT):
            return None
        return self.write(record)

    def revive(self, record: Record) -> None:
        """It goes on for others, though whoever asked for it first has cancelled it at another server."""

        def change(connection: sa.Connection) -> None:
            upsert(connection, JOBS, self._row(record) | {"beat": now(connection)})

        self._try(lambda: self._store.write(change))

    def turns_over_all(self, unlike: Callable[[Job], QfundError | None]) -> claims.Claims | None:
        """Turns over all servers; None where this one has its database for itself."""
        return claims.Claims(self, unlike) if self._store.shared else None

    def in_turn(self) -> list[tuple[Job, Visitor, str]]:
        """Jobs that no server has begun, the next one first, by whom, and at which server; ``visitors`` of each is how
        many wait for it there."""

        def look(connection: sa.Connection) -> list[tuple[Job, Visitor, str]]:
            found = []
            for row in claims.in_turn(connection, now(connection)) if migrations.done(connection) else ():
                with suppress(KeyError, msgspec.DecodeError, QfundError):
                    job = replace(_job(row), visitors=row["owners"] or 1)
                    found.append((job, Visitor(row["visitor"]), row["server"]))
            return found

        return self._try(lambda: self._store.read(look)) or []

    def mine(self, server: str) -> bool:
        return server == self._server

    def begin(self, key: str, server: str) -> bool | None:
        """Have one that waits at ``server`` for this server, which begins it; False if it waits there no more, None if
        the database does not tell."""

        def change(connection: sa.Connection) -> bool:
            still = (JOBS.c.key == key) & (JOBS.c.server == server) & (JOBS.c.state == "queued")
            begun = {"server": self._server, "started": time.time(), "beat": now(connection)}
            return connection.execute(sa.update(JOBS).where(still, JOBS.c.started.is_(None)).values(begun)).rowcount > 0

        return self._try(lambda: self._store.write(change))

    def elsewhere(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that another server has."""
        wanted = sa.select(JOBS.c.key).where(JOBS.c.key.in_(list(keys)), JOBS.c.server != self._server)

        def look(connection: sa.Connection) -> set[str]:
            return set(connection.execute(wanted).scalars())

        return self._try(lambda: self._store.read(look)) or set()

    def cancel(self, key: str, visitor: Visitor, error: QfundError) -> bool:
        """Ask the server that has the job to end it, if it is this visitor's; whether it is and waits or runs."""
        theirs = (JOBS.c.key == key) & JOBS.c.state.in_(_ACTIVE) & (JOBS.c.server != self._server)
        if not (self._store.shared and visitor.id):
            return False

        def change(connection: sa.Connection) -> bool:
            values = {"state": "cancelled", "finished": time.time(), "error": _written_error(error)}
            wanted = sa.update(JOBS).where(theirs, JOBS.c.visitor == visitor.id)
            return connection.execute(wanted.values(values)).rowcount > 0

        return bool(self._try(lambda: self._store.write(change)))

    def find(self, key: str) -> tuple[Job, bool] | None:
        """A job that this process does not know: at work elsewhere, interrupted, or failed not long ago; and whether
        it was left behind by a server that is gone."""

        def look(connection: sa.Connection) -> tuple[Job, bool] | None:
            if not sa.inspect(connection).has_table(JOBS.name):
                return None
            row = connection.execute(sa.select(JOBS).where(JOBS.c.key == key)).mappings().first()
            if row is None or row["state"] == "done":
                return None
            active = row["state"] in _ACTIVE
            if not active and (row["finished"] or 0.0) < time.time() - REMEMBERED:
                return None
            try:
                return _job(row), active and _left(connection, row)
            except (KeyError, msgspec.DecodeError, QfundError):
                return None

        return self._try(lambda: self._store.read(look))

    def take_over(self, key: str | None = None) -> list[tuple[Job, Visitor]]:
        """Jobs whose server is gone, this one's from now on; of that key only, or all. Those that cannot be begun again
        are written down as lost."""

        def change(connection: sa.Connection) -> list[tuple[Job, Visitor]]:
            wanted = sa.select(JOBS).where(JOBS.c.state.in_(_ACTIVE)).order_by(JOBS.c.submitted)
            found = []
            for row in connection.execute(wanted if key is None else wanted.where(JOBS.c.key == key)).mappings().all():
                if not _left(connection, row):
                    continue
                job, problem = _again(row)
                values: dict[str, Any] = {"server": self._server, "beat": now(connection)}
                if problem is not None:
                    values |= {"state": "lost", "finished": time.time(), "error": _written_error(problem)}
                elif job is not None:
                    values |= {"state": "queued", "attempts": job.attempts, "phase": "", "share": 0.0, "started": None}
                # Only if nobody else was faster.
                same = sa.and_(*(JOBS.c[name] == row[name] for name in ("key", "server", "state", "beat")))
                if connection.execute(sa.update(JOBS).where(same).values(values)).rowcount and job is not None:
                    found.append((job, Visitor(row["visitor"])))
            return found

        if not self._try(lambda: self._store.read(lambda connection: _some_left(connection, key))):
            return []
        return self._try(lambda: self._store.write(change, alone=True)) or []

    def durations(self) -> list[tuple[str, str, float]]:
        """Kind, model and seconds of jobs that were done, the latest last."""

        def look(connection: sa.Connection) -> list[tuple[str, str, float]]:
            if not sa.inspect(connection).has_table(JOBS.name):
                return []
            seconds = JOBS.c.finished - JOBS.c.started
            wanted = (
                sa.select(JOBS.c.kind, JOBS.c.model, seconds)
                .where(JOBS.c.state == "done", JOBS.c.started.is_not(None))
                .order_by(JOBS.c.finished.desc())
                .limit(200)
            )
            return [(row[0], row[1], row[2]) for row in connection.execute(wanted)][::-1]

        return self._try(lambda: self._store.read(look)) or []

    def _row(self, record: Record) -> dict[str, object]:
        job = record.job
        return {
            "key": job.key,
            "kind": kind_of(job.request).name,
            "model": job.request.model,
            "request": msgspec.json.encode(job.request).decode(),
            "state": job.state,
            "phase": job.phase,
            "share": job.share,
            "attempts": job.attempts,
            "visitor": record.owners[0].id if record.owners else "",
            "server": self._server,
            "beat": time.time(),
            "submitted": job.submitted,
            "started": job.started,
            "finished": job.finished,
            "error": None if job.error is None else _written_error(job.error),
            "address": claims.address_of(record.owners[0] if record.owners else Visitor()),
            "owners": len(record.owners),
        }

    def _try(self, act: Callable[[], Found]) -> Found | None:
        try:
            return act()
        except StoreError as error:
            _log.warning("Jobs are not written down. %s", error)
            return None


def _left(connection: sa.Connection, row: sa.RowMapping) -> bool:
    """Whether the server that has the job is gone. While a database was away nobody could give it a sign."""
    return not servers.alive(row["server"], max(row["beat"], up_since(connection)), now(connection))


def _some_left(connection: sa.Connection, key: str | None) -> bool:
    if not sa.inspect(connection).has_table(JOBS.name):
        return False
    wanted = sa.select(JOBS.c.server, JOBS.c.beat).where(JOBS.c.state.in_(_ACTIVE))
    rows = connection.execute(wanted if key is None else wanted.where(JOBS.c.key == key)).mappings().all()
    return any(_left(connection, row) for row in rows)


def _again(row: sa.RowMapping) -> tuple[Job | None, QfundError | None]:
    """An interrupted job as it is begun again, or why it is not."""
    if row["state"] == "running" and row["attempts"] >= ATTEMPTS:
        return None, EngineError(
            f"The server was ended in the middle of this job, {row['attempts']} times.",
            "If it was the job that ended it, choose a smaller model or fewer tokens; otherwise start it again.",
        )
    try:
        job = _job(row)
    except (KeyError, msgspec.DecodeError, QfundError):
        return None, EngineError("The server was ended before this job, and is another one now.", "Start it again.")
    attempts = job.attempts + (job.state == "running")
    return replace(job, state="queued", phase="", share=0.0, started=None, attempts=attempts), None


def _job(row: sa.RowMapping) -> Job:
    """Raises ``KeyError``, ``msgspec.DecodeError`` or ``QfundError`` for what this qfund does not know."""
    kind = KINDS[row["kind"]]
    error = None if row["error"] is None else msgspec.json.decode(row["error"], type=messages.Failed).exception()
    return Job(
        row["key"],
        kind.checked(kind.read_request(row["request"].encode())),
        state=row["state"],
        phase=row["phase"],
        share=row["share"],
        attempts=row["attempts"],
        submitted=row["submitted"],
        started=row["started"],
        finished=row["finished"],
        error=error,
    )


def _written_error(error: QfundError) -> str:
    return msgspec.json.encode(messages.failure(error)).decode()
