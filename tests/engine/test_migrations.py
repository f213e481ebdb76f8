"""Databases of earlier versions: nothing that is in them is lost."""

import shutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from qfund.engine import migrations
from qfund.engine import store as engine_store
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.engine.tables import TABLES
from tests.engine import databases
from tests.engine.databases import execute, url_of
from tests.engine.toys import TOYS, Shouted
from tests.features.compare.reports import make_report

ROOT = Path(__file__).resolve().parents[2]
COMPARE = KINDS["compare"]
KIND = TOYS["shout"]

#: As they were before there were steps, with a comparison of an own text and one of the model's own.
BEFORE = """
CREATE TABLE qfund_meta (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE qfund_reports (
    "key" VARCHAR(64) NOT NULL PRIMARY KEY, schema INTEGER NOT NULL, created DOUBLE NOT NULL, summary TEXT NOT NULL,
    document BLOB NOT NULL
);
INSERT INTO qfund_meta VALUES ('schema', '1');
INSERT INTO qfund_reports VALUES ('own', 4, 1.0, '{"key":"own","text":"mine","qfund":"1"}', x'00');
INSERT INTO qfund_reports VALUES ('usual', 4, 1.0, '{"key":"usual","text":null,"qfund":"1"}', x'00');
"""
#: It came later.
DOCUMENTS = """
CREATE TABLE qfund_documents (
    "key" VARCHAR(64) NOT NULL PRIMARY KEY, kind VARCHAR(64) NOT NULL, schema INTEGER NOT NULL, created DOUBLE NOT NULL,
    document BLOB NOT NULL
);
INSERT INTO qfund_documents VALUES ('plan', 'plan', 1, 1.0, x'00');
"""


#: The same in PostgreSQL.
_TYPES = {"DOUBLE": "DOUBLE PRECISION", "BLOB": "BYTEA", "x'00'": "'\\x00'"}


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(file) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(("database", "documents"), [("sqlite", ""), ("sqlite", DOCUMENTS), ("postgres", DOCUMENTS)])
def test_a_database_from_before_there_were_steps_is_brought_to_today_with_all_that_is_in_it(
    database: str, documents: str, tmp_path: Path
) -> None:
    store = Store(url_of(database, tmp_path / "qfund.db"))
    script = BEFORE + documents
    for word in _TYPES if database == "postgres" else ():
        script = script.replace(word, _TYPES[word])
    execute(store, *(statement.replace(":", "\\:") for statement in script.split(";")[:-1]))
    assert store.get(KIND, "plan") is None  # reading changes nothing
    assert not sa.inspect(store._engine).has_table("qfund_jobs")
    store.put(KIND, "new", Shouted("NEW"))
    assert execute(store, "SELECT key, own FROM qfund_reports ORDER BY key") == [("own", True), ("usual", False)]
    kept = [("new",), *([("plan",)] if documents else [])]
    assert execute(store, "SELECT key FROM qfund_documents ORDER BY key") == kept
    assert store.get(KIND, "new") == Shouted("NEW")


def test_a_recorded_database_keeps_every_byte_of_its_results(tmp_path: Path) -> None:
    (recorded,) = (ROOT / "tests/golden/recorded").glob("*.sqlite")
    file = tmp_path / "qfund.db"
    shutil.copy(recorded, file)
    queries = [
        f"SELECT key, schema, created, document FROM {name} ORDER BY key"
        for name in ("qfund_reports", "qfund_documents")
    ]
    before = [rows(file, query) for query in queries]
    assert any(before)
    store = Store(f"sqlite:///{file}")
    listed = store.listed(COMPARE)
    store.write(lambda connection: None)
    assert [rows(file, query) for query in queries] == before and store.listed(COMPARE) == listed
    assert rows(file, "SELECT count(*) FROM qfund_jobs") == [(0,)]


@pytest.mark.parametrize("database", databases.KINDS)
def test_the_steps_lead_to_the_tables_that_the_code_has_and_are_taken_once(database: str, tmp_path: Path) -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(each.revision for each in script.walk_revisions("base", "heads"))[::-1] == migrations.REVISIONS
    store = Store(url_of(database, tmp_path / "qfund.db"))
    store.write(lambda connection: None)

    def look(connection: sa.Connection) -> list[object]:
        assert migrations.done(connection)
        context = MigrationContext.configure(connection, opts={"version_table": "qfund_revision"})
        return list(compare_metadata(context, TABLES))

    assert store.read(look) == []


def test_an_older_qfund_and_a_newer_one_read_the_same_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "qfund.db"
    store, report = Store(f"sqlite:///{file}"), make_report()
    store.put(COMPARE, "key", report)
    with sqlite3.connect(file) as connection:  # a step that this one does not know, and that only adds
        connection.execute("UPDATE qfund_revision SET version_num = 'later'")
        connection.execute("ALTER TABLE qfund_reports ADD COLUMN more INTEGER")
    store.put(COMPARE, "other", report)
    assert store.get(COMPARE, "key") == store.get(COMPARE, "other") == report
    assert rows(file, "SELECT value FROM qfund_meta") == [(str(engine_store.SCHEMA),)]
