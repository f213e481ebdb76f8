"""The database of results: SQLAlchemy, one SQLite file unless ``QFUND_DATABASE_URL`` names another database.

What is here has been measured and can be measured again, so whatever this version cannot read counts as absent.
Nothing is opened or made before the first use, and reading makes nothing. No connection to a file is held between
calls, so a deleted, replaced or repaired database is seen at once; those to a server are, and survive its restart.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from qfund.core.errors import StoreError
from qfund.core.feature import Kind
from qfund.core.home import home, make_room
from qfund.engine import migrations
from qfund.engine.shared.rows import BUSY, lines_of, result_of, row_of
from qfund.engine.shared.rows import SCHEMA as SCHEMA
from qfund.engine.tables import DOCUMENTS, JOBS, META, OWNERS, REPORTS

#: Seconds that a database server has to answer a call.
CONNECT = 5

Answer = TypeVar("Answer")


class Store:
    """Results by kind and key (``qfund.engine.key_of``). Threads and processes may share a database; every method may
    raise a ``StoreError``, and only the calling one fails with it."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url or os.environ.get("QFUND_DATABASE_URL") or None

    def get(self, kind: Kind, key: str) -> Any | None:
        """The result under ``key``; None if there is none that this version of qfund can read."""
        table = REPORTS if kind.listed else DOCUMENTS
        wanted = sa.select(table.c.document).where(table.c.key == key, table.c.schema == kind.schema)
        if not kind.listed:
            wanted = wanted.where(table.c.kind == kind.name)

        def find(connection: sa.Connection) -> bytes | None:
            there = sa.inspect(connection).has_table(table.name)
            return connection.execute(wanted).scalar_one_or_none() if there else None

        document = self.read(find)
        return result_of(kind, document)

    def keys(self, kind: Kind) -> frozenset[str]:
        """Of all results of a listed kind that this version reads."""
        wanted = sa.select(REPORTS.c.key).where(REPORTS.c.schema == kind.schema)
        return frozenset(self.read(lambda connection: connection.execute(wanted).scalars().all()) or ())

    def listed(self, kind: Kind, limit: int = 200) -> list[Any]:
        """A line for each of at most ``limit`` results that this version reads, newest first, without opening them."""
        wanted = (
            sa.select(REPORTS.c.summary)
            .where(REPORTS.c.schema == kind.schema)
            .order_by(REPORTS.c.created.desc(), REPORTS.c.key)
            .limit(limit)
        )
        return lines_of(kind, self.read(lambda connection: connection.execute(wanted).scalars().all()) or ())

    def put(self, kind: Kind, key: str, result: Any) -> None:
        """Keep ``result`` under ``key``, in the place of an earlier one."""
        self._put(REPORTS if kind.listed else DOCUMENTS, row_of(kind, key, result))

    def delete(self, key: str) -> None:
        """Forget what is under ``key``, if there is anything."""
        with self._errors():
            if self.exists():
                with self._engine.begin() as connection:
                    _prepare(connection)
                    for table in (REPORTS, DOCUMENTS, OWNERS):
                        connection.execute(sa.delete(table).where(table.c.key == key))

    def _put(self, table: sa.Table, row: dict[str, Any]) -> None:
        def change(connection: sa.Connection) -> None:
            upsert(connection, table, row)
            # In one transaction: no moment in which there is a result and its job counts as interrupted.
            ended = {"state": "done", "share": 1.0, "finished": time.time(), "error": None}
            connection.execute(sa.update(JOBS).where(JOBS.c.key == row["key"]).values(ended))

        with self._errors():
            if self.file is not None:
                make_room(self.file.parent, len(row["document"]))
        self.write(change)

    def write(self, change: Callable[[sa.Connection], Answer], *, alone: bool = False) -> Answer:
        """What ``change`` gives, done whole or not at all, in a database whose tables are all there.

        Args:
            alone: whether it reads what it then changes: nobody else writes meanwhile.
        """
        with self._errors(), self._engine.begin() as connection:
            _prepare(connection)
            if alone:
                _keep_others_out(connection)
            return change(connection)

    def compact(self) -> None:
        """Give back to the disk what deleted results took; of a database that is no file nothing."""
        if self.file is not None:
            with self._errors(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")

    def read(self, query: Callable[[sa.Connection], Answer]) -> Answer | None:
        """What ``query`` finds in a database of this schema; None where there are no tables of it yet."""

        def ask(engine: sa.Engine) -> Answer | None:
            with engine.connect() as connection:
                return query(connection) if _schema(connection) == SCHEMA else None

        with self._errors():
            if not self.exists():
                return None
            try:
                return ask(self._engine)
            except DBAPIError as error:
                # SQLite cannot open a database in WAL mode as usual in a folder that this user may not write, unless
                # somebody else has it open.
                if self.file is None or not any(sign in str(error.orig) for sign in ("readonly", "unable to open")):
                    raise
                return ask(self._immutable_engine)

    @cached_property
    def _address(self) -> sa.URL:
        if self._url is None:
            return sa.URL.create("sqlite", database=str(home() / "qfund.db"))
        return sa.make_url(self._url)

    @cached_property
    def file(self) -> Path | None:
        """The SQLite file, None for any other database."""
        name = self._address.database
        if self._address.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
            return None
        return Path(name).absolute()

    @property
    def shared(self) -> bool:
        """Whether it is a server's, which other machines may use too, and not a file or in memory."""
        with suppress(ArgumentError):  # told where it is used
            return self._address.get_backend_name() != "sqlite"
        return False

    def exists(self) -> bool:
        """Whether there is a database; one that is no file here counts as there."""
        return self.file is None or self.file.exists()

    @cached_property
    def _engine(self) -> sa.Engine:
        address = self._address
        if address.get_backend_name() != "sqlite":
            # A few connections are kept, and looked at before each use: the server may have been started again.
            patience = {"connect_timeout": CONNECT} if address.get_backend_name() == "postgresql" else {}
            return sa.create_engine(
                address, pool_pre_ping=True, pool_size=5, max_overflow=15, pool_recycle=1800, connect_args=patience
            )
        in_memory = not address.database or address.database == ":memory:"
        engine = sa.create_engine(
            address,
            poolclass=StaticPool if in_memory else NullPool,
            connect_args={"timeout": BUSY, "check_same_thread": False},
        )
        sa.event.listen(engine, "do_connect", self._make_folder)
        sa.event.listen(engine, "connect", _use_wal)
        return engine

    @cached_property
    def _immutable_engine(self) -> sa.Engine:
        assert self.file is not None
        uri = f"{self.file.as_uri()}?immutable=1"
        return sa.create_engine("sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(uri, uri=True))

    def _make_folder(self, *_: object) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn whatever a database, its driver or its disk raises into a ``StoreError``."""
        try:
            yield
        except (NoSuchModuleError, ArgumentError, ImportError) as error:
            raise StoreError(
                f"The database URL cannot be used: {error}.",
                "Write it like sqlite:////folder/qfund.db or postgresql+psycopg://user:password@host/name, and install "
                "the driver that it names.",
            ) from error
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: SQLAlchemyError | OSError) -> StoreError:
        what = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        where = str(self.file) if self.file else self._address.render_as_string(hide_password=True)
        for signs, message, remedy in _AWAY if self.shared else _CAUSES:
            if any(sign in what.lower() for sign in signs):
                return StoreError(f"{message} ({where}: {what}).", remedy)
        return StoreError(
            f"The database refuses ({where}: {what}).", f"Check that it is there and lets this user in. {_ELSEWHERE}"
        )


_ELSEWHERE = "Or keep it elsewhere: set QFUND_HOME to a folder, or QFUND_DATABASE_URL."
_CAUSES = (
    (
        ("not a database", "malformed", "unsupported file format"),
        "The database file is damaged, or is no database",
        "Move it away: qfund makes a new one and measures again. " + _ELSEWHERE,
    ),
    (
        ("readonly", "read-only", "permission denied"),
        "The database cannot be written",
        f"Give this user write permission to the file and its folder. {_ELSEWHERE}",
    ),
    (
        ("disk is full", "disk full", "no space left", "file too large", "disk i/o", "quota"),
        "The disk of the database is full or failing",
        f"Free some space. {_ELSEWHERE}",
    ),
    (
        ("unable to open", "not a directory", "is a directory", "file exists", "no such file"),
        "The database file cannot be opened",
        f"Check that its path is a file in a folder that this user may write. {_ELSEWHERE}",
    ),
    (("locked", "busy"), "The database is busy", "Try again in a moment."),
)
#: Of a server's.
_AWAY = (
    (("lock timeout", "deadlock"), "The database is busy", "Try again in a moment."),
    (("no space left", "disk full"), "The disk of the database is full", "Free some space where it runs."),
    (
        ("connect", "starting up", "shutting down", "terminating", "timeout expired"),
        "The database does not answer",
        f"Wait until it is back, and try again. {_ELSEWHERE}",
    ),
)


def _schema(connection: sa.Connection) -> int | None:
    """The schema that the tables in the database have, None where there are none.

    Raises:
        StoreError: if it is newer than this qfund.
    """
    if not sa.inspect(connection).has_table(META.name):
        return None
    value = connection.execute(sa.select(META.c.value).where(META.c.name == "schema")).scalar_one_or_none()
    if value is None:
        return None
    found = int(value) if value.isdigit() else 0
    if found > SCHEMA:
        raise StoreError(
            f"The database was made by a newer qfund (schema {found}; this one knows {SCHEMA}).",
            f"Update qfund. {_ELSEWHERE}",
        )
    return found


def _prepare(connection: sa.Connection) -> None:
    """Bring the tables to what this qfund writes. Those of an earlier schema are set aside under another name."""
    if _schema(connection) == SCHEMA and migrations.done(connection):
        return
    _keep_others_out(connection)
    found = _schema(connection)  # again: another process may have been faster
    if found != SCHEMA:
        for table in (REPORTS, DOCUMENTS):
            if sa.inspect(connection).has_table(table.name):
                aside = f"{table.name}_{found or 0}_{time.time_ns()}"
                connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO {aside}"))
    if not migrations.done(connection):
        migrations.upgrade(connection)
    upsert(connection, META, {"name": "schema", "value": str(SCHEMA)})


def _keep_others_out(connection: sa.Connection) -> None:
    """Until this transaction ends no other process writes."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY:.0f}s'")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7138625)")
    elif connection.dialect.name == "sqlite" and not connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def now(connection: sa.Connection) -> float:
    """Seconds since the epoch by the clock that all who use the database share."""
    if connection.dialect.name == "postgresql":
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    return time.time()


def up_since(connection: sa.Connection) -> float:
    """When the database began to answer, in seconds since the epoch; 0 where it is a file."""
    if connection.dialect.name == "postgresql":
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM pg_postmaster_start_time())").scalar_one())
    return 0.0


def upsert(connection: sa.Connection, table: sa.Table, row: dict[str, object]) -> None:
    key = table.primary_key.columns[0]
    if connection.dialect.name in ("sqlite", "postgresql"):
        # One statement: in SQLite it takes the write lock at once, and so waits for another writer instead of failing.
        insert = (sqlite.insert if connection.dialect.name == "sqlite" else _postgresql_insert())(table)
        values = {name: value for name, value in row.items() if name != key.name}
        connection.execute(insert.values(row).on_conflict_do_update(index_elements=[key], set_=values))
        return
    for last in (False, True):
        try:
            with connection.begin_nested():
                connection.execute(sa.delete(table).where(key == row[key.name]))
                connection.execute(sa.insert(table).values(row))
            return
        except IntegrityError:  # somebody else inserted in between
            if last:
                raise


def _postgresql_insert() -> Any:
    from sqlalchemy.dialects import postgresql  # slow to import

    return postgresql.insert


def _use_wal(connection: sqlite3.Connection, _: object) -> None:
    # Where it fails (read-only, damaged, another process is doing it) the statement to come works or says why not.
    with suppress(sqlite3.Error):
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
