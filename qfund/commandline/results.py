"""The command line's way to the database: one SQLite file as it usually is, without SQLAlchemy, whose import takes an
eighth of a short command's time. Whatever is not as usual (no tables yet, those of another version, another database, a
file that refuses) is the ``Store``'s to do, or to explain."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from qfund.core.feature import Kind
from qfund.core.home import home, make_room
from qfund.engine.shared.rows import BUSY, REVISIONS, SCHEMA, lines_of, result_of, row_of

if TYPE_CHECKING:
    from qfund.engine.store import Store

#: Of ``engine.tables``: results of listed kinds, of others, who owns them; whose jobs they are.
_REPORTS, _DOCUMENTS, _OWNERS, _JOBS = "qfund_reports", "qfund_documents", "qfund_owners", "qfund_jobs"
Answer = TypeVar("Answer")


class _Unusual(Exception):
    """It is not for here."""


class Results:
    """What ``engine.compute`` needs of a ``Store``; each method does and raises what that one's does."""

    def get(self, kind: Kind, key: str) -> Any | None:
        table, more = (_REPORTS, "") if kind.listed else (_DOCUMENTS, " AND kind = ?")
        given = (key, kind.schema) if kind.listed else (key, kind.schema, kind.name)
        wanted = f"SELECT document FROM {table} WHERE key = ? AND schema = ?{more}"
        return self._tried(
            lambda file: result_of(kind, next((row[0] for row in file.execute(wanted, given)), None)),
            lambda store: store.get(kind, key),
        )

    def listed(self, kind: Kind, limit: int = 200) -> list[Any]:
        wanted = f"SELECT summary FROM {_REPORTS} WHERE schema = ? ORDER BY created DESC, key LIMIT ?"
        return self._tried(
            lambda file: lines_of(kind, [row[0] for row in file.execute(wanted, (kind.schema, limit))]),
            lambda store: store.listed(kind, limit),
        )

    def put(self, kind: Kind, key: str, result: Any) -> None:
        row = row_of(kind, key, result)
        columns, places = ", ".join(row), ", ".join("?" * len(row))
        changed = ", ".join(f"{name} = excluded.{name}" for name in row if name != "key")
        table = _REPORTS if kind.listed else _DOCUMENTS
        insert = f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT (key) DO UPDATE SET {changed}"
        ended = f"UPDATE {_JOBS} SET state = 'done', share = 1.0, finished = ?, error = NULL WHERE key = ?"

        def change(file: sqlite3.Connection) -> None:
            make_room(home(), len(row["document"]))
            with file:
                file.execute(insert, tuple(row.values()))
                file.execute(ended, (time.time(), key))

        self._tried(change, lambda store: store.put(kind, key, result))

    def delete(self, key: str) -> None:
        def change(file: sqlite3.Connection) -> None:
            with file:
                for table in (_REPORTS, _DOCUMENTS, _OWNERS):
                    file.execute(f"DELETE FROM {table} WHERE key = ?", (key,))

        self._tried(change, lambda store: store.delete(key))

    def _tried(self, usual: Callable[[sqlite3.Connection], Answer], else_: "Callable[[Store], Answer]") -> Answer:
        try:
            with _opened() as file:
                return usual(file)
        except (_Unusual, sqlite3.Error, OSError):
            return else_(self._store)

    @cached_property
    def _store(self) -> "Store":
        from qfund.engine.store import Store

        return Store()


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The file of this user, whose tables are those of this version.

    Raises:
        _Unusual: another database is named, or its tables are none of this version.
        sqlite3.Error: it is not there, or refuses.
    """
    if os.environ.get("QFUND_DATABASE_URL"):
        raise _Unusual
    with closing(sqlite3.connect(f"{(home() / 'qfund.db').as_uri()}?mode=rw", timeout=BUSY, uri=True)) as file:
        (schema,) = file.execute("SELECT value FROM qfund_meta WHERE name = 'schema'").fetchone() or (None,)
        (revision,) = file.execute("SELECT version_num FROM qfund_revision").fetchone() or (None,)
        names = {row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if schema != str(SCHEMA) or revision != REVISIONS[-1] or not {_REPORTS, _DOCUMENTS, _OWNERS, _JOBS} <= names:
            raise _Unusual
        if file.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise _Unusual
        file.execute("PRAGMA synchronous = NORMAL")
        yield file
