"""The databases that stores are tested with: SQLite in a file, and a PostgreSQL that is started once in a process."""

import functools
import importlib
import itertools
import os
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from qfund.engine.store import Store
from tests.patience import PATIENCE, until

KINDS = ("sqlite", "postgres")
_schemas = itertools.count()


class Postgres:
    """The server that the wheel ``pgserver`` brings, in a folder of its own."""

    def __init__(self) -> None:
        get_server = importlib.import_module("pgserver").get_server
        folder = tempfile.mkdtemp(prefix="qfund-postgres-")
        with suppress(subprocess.SubprocessError):  # it has ten seconds, which a busy machine may need
            get_server(folder, cleanup_mode="delete")
        self._server: Any = get_server(folder)  # the same one
        self.start()
        self.uri = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://")

    def kill(self) -> None:
        """At once, as a machine that is gone."""
        info = self._server.get_postmaster_info()
        family = [info.process, *info.process.children(recursive=True)]
        for process in family:
            process.kill()
        for process in family:
            process.wait(PATIENCE)

    def start(self) -> None:
        def ready() -> bool:
            with suppress(subprocess.SubprocessError, AssertionError):
                self._server.ensure_postgres_running()
                return True
            return False

        until(ready)


@functools.cache
def postgres() -> Postgres:
    """Skips the test where there is none."""
    for module in ("pgserver", "psycopg"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -r requirements-dev.txt")
    return Postgres()


def url_of(kind: str, file: Path) -> str:
    """Of an empty database; in PostgreSQL a schema of its own is as good."""
    if kind == "sqlite":
        return f"sqlite:///{file}"
    name = f"test_{os.getpid()}_{next(_schemas)}"
    with sa.create_engine(postgres().uri, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    return f"{postgres().uri}&options=-csearch_path%3D{name}"


def execute(store: Store, *statements: str, **values: object) -> list[tuple[Any, ...]]:
    """Rows of the last one, by no road of qfund's."""
    with store._engine.begin() as connection:
        for statement in statements:
            found = connection.execute(sa.text(statement), values)
        return [tuple(row) for row in found.all()] if found.returns_rows else []
