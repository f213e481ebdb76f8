"""What the store holds and takes, what may go, and a copy to take along.

Everything in it can be measured again, so what goes is at worst work lost. Entries of the cache go before results,
results of texts and pictures that strangers gave go by themselves after a while, and others only when somebody says so
or a quota is set.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from qfund.core.home import cached
from qfund.core.machine import free_bytes
from qfund.engine import settings
from qfund.engine.shared.ledger import REMEMBERED
from qfund.engine.store import Store, upsert
from qfund.engine.tables import DOCUMENTS, JOBS, OWNERS, REPORTS

DAY = 86_400.0
_RESULTS = (REPORTS, DOCUMENTS)


@dataclass(frozen=True, slots=True)
class Line:
    """Results of one kind: how many, and their compressed bytes."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """``own``: results of texts and pictures that somebody gave. ``free``: of the disk, None of a database that is no
    file here. Bytes all but ``jobs``, which counts them by state."""

    results: tuple[Line, ...]
    own: Line
    jobs: dict[str, int]
    database: int | None
    cache: int
    free: int | None


def sizes(store: Store) -> Sizes:
    """Raises ``StoreError`` where the database refuses."""

    def look(connection: sa.Connection) -> tuple[list[Line], Line, dict[str, int]]:
        lines, own = [], Line("own", 0, 0)
        there = sa.inspect(connection)
        for table in _RESULTS:
            if not there.has_table(table.name):
                continue
            kind = table.c.kind if "kind" in table.c else sa.literal("compare")
            bytes_ = sa.func.sum(sa.func.length(table.c.document))
            found = sa.select(kind, sa.func.count(), bytes_).group_by(*([kind] if "kind" in table.c else []))
            lines += [Line(row[0], row[1], row[2]) for row in connection.execute(found) if row[1]]
            if "own" in {column["name"] for column in there.get_columns(table.name)}:
                count, taken = connection.execute(sa.select(sa.func.count(), bytes_).where(table.c.own)).one()
                own = Line("own", own.count + count, own.bytes + (taken or 0))
        jobs: dict[str, int] = {}
        if there.has_table(JOBS.name):
            counted = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
            jobs = dict(connection.execute(counted).tuples().all())
        return lines, own, jobs

    lines, own, jobs = store.read(look) or ([], Line("own", 0, 0), {})
    file = store.file
    taken = None if file is None else sum(part.stat().st_size for part in _parts(file))
    free = None if file is None else free_bytes(file.parent)
    return Sizes(tuple(sorted(lines, key=lambda line: -line.bytes)), own, jobs, taken, cached(), free)


def prune(
    store: Store, *, before: float | None = None, own: bool = False, to_bytes: int | None = None, now: bool = True
) -> int:
    """Delete results; how many.

    Args:
        before: those that were made before this time, in seconds since the epoch; None for none by age.
        own: of those only what somebody gave the text or the pictures of.
        to_bytes: and the oldest, until what is left takes so much.
        now: give the space back to the disk at once, where the database is a file: that takes as much again meanwhile.

    Raises:
        StoreError: the database refuses.
    """

    def change(connection: sa.Connection) -> int:
        gone = 0
        for table in _RESULTS:
            if before is not None:
                old = [table.c.created < before, *([table.c.own] if own else [])]
                gone += connection.execute(sa.delete(table).where(*old)).rowcount
        return gone + (_shrink(connection, to_bytes) if to_bytes is not None else 0)

    if not store.exists():
        return 0
    gone = store.write(change)
    if gone and now:
        store.compact()
    return gone


def copy(source: Store, target: Store) -> int:
    """Put all results of one store into another one, where there is no later one under their key; how many.

    Raises:
        StoreError: one of the databases refuses.
    """
    copied = 0
    for table in _RESULTS:
        for row in _rows(source, table):

            def change(connection: sa.Connection, table: sa.Table = table, row: dict[str, object] = row) -> bool:
                there = sa.select(table.c.created).where(table.c.key == row["key"])
                found = connection.execute(there).scalar_one_or_none()
                if found is not None and found >= row["created"]:
                    return False
                upsert(connection, table, row)
                return True

            copied += target.write(change, alone=True)
    _copy_owners(source, target)
    return copied


def _copy_owners(source: Store, target: Store) -> None:
    """What is private stays so."""

    def look(connection: sa.Connection) -> list[dict[str, object]]:
        there = sa.inspect(connection).has_table(OWNERS.name)
        return [dict(row) for row in connection.execute(sa.select(OWNERS)).mappings()] if there else []

    def change(connection: sa.Connection) -> None:
        for row in found:
            upsert(connection, OWNERS, row)

    found = source.read(look) or []
    if found:
        target.write(change)


def tidy(store: Store) -> None:
    """What a server does by itself: words of jobs that are over go, and what strangers gave; and a quota is kept.

    Raises:
        StoreError: the database refuses.
        UsageError: a setting that is no number above 0.
    """
    keep, quota, now = settings.keep_days(), settings.store_bytes(), time.time()

    def change(connection: sa.Connection) -> None:
        over = JOBS.c.finished < now - REMEMBERED
        connection.execute(sa.update(JOBS).where(over).values(request="", error=None))
        connection.execute(sa.delete(JOBS).where(JOBS.c.finished < now - 90 * DAY))

    store.write(change)
    if keep is not None:
        prune(store, before=now - keep * DAY, own=True, now=False)
    if quota is not None:
        prune(store, to_bytes=quota, now=False)


def _shrink(connection: sa.Connection, to_bytes: int) -> int:
    """The oldest go first, those that somebody gave the text of before all others."""
    found = []
    for place, table in enumerate(_RESULTS):
        wanted = sa.select(table.c.key, table.c.created, table.c.own, sa.func.length(table.c.document))
        found += [(not own, created, place, key, size) for key, created, own, size in connection.execute(wanted)]
    taken, gone = sum(size for *_, size in found), 0
    for _, _, place, key, size in sorted(found):
        if taken <= to_bytes:
            break
        connection.execute(sa.delete(_RESULTS[place]).where(_RESULTS[place].c.key == key))
        taken, gone = taken - size, gone + 1
    return gone


def _rows(store: Store, table: sa.Table) -> Iterator[dict[str, object]]:
    """One after another: together they may be larger than the memory."""

    def keys(connection: sa.Connection) -> list[str]:
        if not sa.inspect(connection).has_table(table.name):
            return []
        return list(connection.execute(sa.select(table.c.key).order_by(table.c.created)).scalars())

    for key in store.read(keys) or []:

        def row(connection: sa.Connection, key: str = key) -> dict[str, object] | None:
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            wanted = sa.select(*(column for column in table.c if column.name in there)).where(table.c.key == key)
            found = connection.execute(wanted).mappings().first()
            return None if found is None else dict(found)

        if (found := store.read(row)) is not None:
            yield found


def _parts(file: Path) -> list[Path]:
    """The database, and what SQLite keeps beside it."""
    return [part for end in ("", "-wal", "-shm") if (part := file.with_name(file.name + end)).exists()]
