"""The command line's way to the database: the same rows as the store's, and the store where it must be."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qfund.commandline import results
from qfund.commandline.results import Results
from qfund.core.errors import StoreError
from qfund.core.home import home
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.engine.tables import DOCUMENTS, JOBS, OWNERS, REPORTS
from tests.engine.toys import TOYS, Shouted
from tests.features.compare.reports import make_report

COMPARE, KIND = KINDS["compare"], TOYS["shout"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("QFUND_DATABASE_URL", raising=False)


def made() -> sqlite3.Connection:
    """A database with its tables, and a connection to it."""
    Store().put(KIND, "first", Shouted("!"))
    return sqlite3.connect(home() / "qfund.db")


def test_the_tables_have_these_names() -> None:
    named = results._REPORTS, results._DOCUMENTS, results._OWNERS, results._JOBS
    assert named == (REPORTS.name, DOCUMENTS.name, OWNERS.name, JOBS.name)


def test_both_ways_read_what_either_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    file, report = made(), make_report()
    monkeypatch.setattr(Results, "_store", None)  # nothing is left to it
    Results().put(COMPARE, "a", report)
    Results().put(COMPARE, "a", report)
    Results().put(KIND, "b", Shouted("?"))
    Store().put(COMPARE, "c", report)
    for way in (Results(), Store()):
        assert way.get(COMPARE, "a") == way.get(COMPARE, "c") == report
        assert way.get(KIND, "b") == Shouted("?") and way.get(KIND, "a") is None and way.get(COMPARE, "b") is None
        assert len(way.listed(COMPARE)) == 2
    assert Results().listed(COMPARE) == Store().listed(COMPARE) and len(Results().listed(COMPARE, 1)) == 1
    one, other = (
        file.execute("SELECT schema, created, summary, document, own FROM qfund_reports WHERE key = ?", key).fetchone()
        for key in "ac"
    )
    assert one[:2] + one[3:] == other[:2] + other[3:]
    Results().delete("a")
    assert Store().get(COMPARE, "a") is None and Store().get(COMPARE, "c") == report


def test_a_job_of_the_same_key_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    file = made()
    columns = "key kind model request state phase share attempts visitor server beat submitted error"
    with file:
        given: list[Any] = ["a", "k", "m", "r", "running", "p", 0.5, 1, "v", "s", 0.0, 0.0, "e"]
        file.execute(f"INSERT INTO qfund_jobs ({columns.replace(' ', ', ')}) VALUES ({', '.join('?' * 13)})", given)
    monkeypatch.setattr(Results, "_store", None)
    Results().put(COMPARE, "a", make_report())
    assert file.execute("SELECT state, share, error FROM qfund_jobs").fetchall() == [("done", 1.0, None)]


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE qfund_jobs",
        "UPDATE qfund_revision SET version_num = 'jobs'",
        "DELETE FROM qfund_revision",
        "DELETE FROM qfund_meta",
        "PRAGMA journal_mode = DELETE",
    ],
)
def test_what_is_not_as_usual_is_the_stores(change: str) -> None:
    file = made()
    with file:
        file.execute(change)
    file.close()
    Results().put(COMPARE, "a", make_report())
    assert Results().get(COMPARE, "a") == Store().get(COMPARE, "a") == make_report()


def test_no_database_yet_another_one_and_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Results().get(COMPARE, "a") is None and Results().listed(COMPARE) == [] and not home().exists()
    Results().put(COMPARE, "a", make_report())  # makes it
    assert Results().get(COMPARE, "a") == make_report()
    monkeypatch.setenv("QFUND_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    assert Results().get(COMPARE, "a") is None
    monkeypatch.delenv("QFUND_DATABASE_URL")
    for part in home().glob("qfund.db*"):
        part.unlink()
    (home() / "qfund.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="damaged"):
        Results().get(COMPARE, "a")


def test_it_needs_no_sqlalchemy() -> None:
    made().close()
    code = (
        "import sys; from qfund.commandline.results import Results; from qfund.engine.kinds import KINDS; "
        "Results().delete('x'); print(Results().listed(KINDS['compare'])); assert 'sqlalchemy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
