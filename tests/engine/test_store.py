"""The database of reports: what is kept, what is refused, and what two processes do to each other."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from qfund.core.errors import StoreError
from qfund.core.home import home
from qfund.engine import store as engine_store
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.engine.tables import TABLES
from qfund.features.compare.request import listing
from qfund.features.compare.request import report as report_request
from qfund.features.compare.request.listing import Headline
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.inputs.texts import NamedText
from tests.engine import databases
from tests.engine.databases import execute, url_of
from tests.engine.toys import TOYS, Shouted
from tests.features.compare.reports import make_report, renamed

ROOT = Path(__file__).resolve().parents[2]

COMPARE = KINDS["compare"]
KIND = TOYS["shout"]  # of results that nobody lists


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In every database, but for tests that look into the file."""
    if "database" in metafunc.fixturenames and "there" not in metafunc.fixturenames:
        metafunc.parametrize("database", ("sqlite",) if "file" in metafunc.fixturenames else databases.KINDS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reports.db"


@pytest.fixture
def store(tmp_path: Path, database: str) -> Store:
    return Store(url_of(database, tmp_path / "reports.db"))


@pytest.fixture
def report() -> Report:
    return make_report()


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python that can import this checkout."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


# Keeping and finding.


def test_a_report_comes_back_as_it_was(store: Store, report: Report) -> None:
    store.put(COMPARE, "key", report)
    assert store.get(COMPARE, "key") == report
    assert store.get(COMPARE, "other") is None


def test_unicode_and_a_large_report_come_back(store: Store, report: Report) -> None:
    row = report.reference.tensors[0]
    tensors = tuple(replace(row, name=f"层.{i}.βάρος 🦙\u2028\0") for i in range(50_000))
    large = replace(report, spec=replace(report.spec, text="naïve\n" * 100_000), results=())
    large = replace(large, reference=replace(report.reference, tensors=tensors))
    assert len(report_request.to_json(large)) > 5_000_000
    store.put(COMPARE, "large", large)
    assert store.get(COMPARE, "large") == large


def test_documents_are_stored_compressed(store: Store, file: Path, report: Report) -> None:
    large = replace(report, spec=replace(report.spec, text="a text that repeats itself " * 100_000))
    store.put(COMPARE, "key", large)
    assert file.stat().st_size < 200_000


def test_a_second_report_under_a_key_replaces_the_first(store: Store, report: Report) -> None:
    store.put(COMPARE, "key", report)
    store.put(COMPARE, "key", renamed(report, "other"))
    found = store.get(COMPARE, "key")
    assert found is not None and found.spec.model == "other"
    assert [saved.model for saved in store.listed(COMPARE)] == ["other"]


def test_delete(store: Store, report: Report) -> None:
    store.put(COMPARE, "key", report)
    store.put(COMPARE, "kept", report)
    store.delete("key")
    store.delete("never there")
    assert store.get(COMPARE, "key") is None
    assert [saved.key for saved in store.listed(COMPARE)] == ["kept"]


def test_the_listing_is_newest_first_across_time_zones_and_limited(store: Store, report: Report) -> None:
    stamps = {
        "second": "2026-01-01T12:00:00+00:00",
        "first": "2026-01-01T12:30:00+01:00",
        "third": "2026-01-01T12:00:01+00:00",
    }
    for key, created in stamps.items():
        store.put(COMPARE, key, replace(report, created=created))
    assert [saved.key for saved in store.listed(COMPARE)] == ["third", "second", "first"]
    assert [saved.key for saved in store.listed(COMPARE, limit=2)] == ["third", "second"]


def test_a_line_of_the_listing(store: Store) -> None:
    report = make_report(Spec("a/model", "fp32", ("bf16", "int8"), text="x" * 1000, revision="v1"))
    store.put(COMPARE, "key", report)
    (saved,) = store.listed(COMPARE)
    assert (saved.key, saved.created, saved.model, saved.revision) == ("key", report.created, "a/model", "v1")
    assert (saved.reference, saved.precisions) == ("fp32", ("bf16", "int8"))
    assert (saved.tokens, saved.qfund, saved.text) == (report.input.tokens, report.qfund, "x" * listing.EXCERPT)
    bf16 = report.results[0]
    assert saved.candidates[0] == Headline(
        "bf16",
        bf16.footprint_bytes / report.reference.footprint_bytes,
        bf16.fidelity["kl_mean"].value,
        bf16.fidelity["top1_agreement"].value,
        bf16.fidelity["perplexity_ratio"].value,
    )


def test_several_texts_are_a_visitors_own_in_the_listing(store: Store) -> None:
    """A public server lists no comparison that has a text."""
    texts = (NamedText("a.txt", "secret"), NamedText("b" * 100, "secret"))
    store.put(COMPARE, "key", make_report(Spec("a/model", precisions=("bf16",), texts=texts)))
    (saved,) = store.listed(COMPARE)
    assert saved.text == f"2 texts: a.txt, {'b' * 100}"[: listing.EXCERPT] and "secret" not in saved.text


def test_metrics_that_a_task_does_not_give_are_none_in_the_listing(store: Store, report: Report) -> None:
    results = tuple(replace(result, fidelity={}) for result in report.results)
    store.put(COMPARE, "key", replace(report, results=results))
    assert {row.kl_mean for row in store.listed(COMPARE)[0].candidates} == {None}


def test_the_listing_says_what_is_not_finite_and_what_was_looked_at(store: Store, report: Report) -> None:
    results = (replace(report.results[0], nonfinite_positions=3), *report.results[1:])
    store.put(
        COMPARE, "key", replace(report, results=results, input=replace(report.input, source="pictures", chunks=16))
    )
    (saved,) = store.listed(COMPARE)
    assert [row.nonfinite_positions for row in saved.candidates] == [3, 0, 0]
    assert saved.pictures == 16


def test_a_listing_of_an_earlier_version_lacks_the_newer_fields_and_is_read(store: Store, report: Report) -> None:
    store.put(COMPARE, "key", report)
    (before,) = store.listed(COMPARE)
    line = json.loads(msgspec.json.encode(before))
    del line["pictures"]
    for candidate in line["candidates"]:
        del candidate["nonfinite_positions"], candidate["hidden_cosine"]
    execute(store, "UPDATE qfund_reports SET summary = :line", line=json.dumps(line))
    assert store.listed(COMPARE) == [before]


# Where it lives.


def test_nothing_is_made_before_the_first_put(store: Store, file: Path) -> None:
    assert store.get(COMPARE, "key") is None
    assert store.listed(COMPARE) == []
    store.delete("key")
    assert not file.exists()


def test_the_default_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("QFUND_HOME", "QFUND_DATABASE_URL", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".local/share/qfund"
    monkeypatch.setenv("XDG_DATA_HOME", "relative, so not to be used")
    assert home() == tmp_path / ".local/share/qfund"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data/qfund"
    monkeypatch.setenv("QFUND_HOME", str(tmp_path / "own ?#% folder"))
    Store().put(COMPARE, "key", make_report())
    assert (tmp_path / "own ?#% folder/qfund.db").is_file()
    monkeypatch.setenv("QFUND_DATABASE_URL", f"sqlite:///{tmp_path}/url.db")
    assert Store().get(COMPARE, "key") is None
    Store().put(COMPARE, "key", make_report())
    assert (tmp_path / "url.db").is_file()


def test_a_file_that_disappears_is_made_again(store: Store, file: Path, report: Report) -> None:
    store.put(COMPARE, "key", report)
    file.unlink()
    assert store.get(COMPARE, "key") is None
    store.put(COMPARE, "key", report)
    assert store.get(COMPARE, "key") == report


def test_an_in_memory_database_serves_all_calls(report: Report) -> None:
    store = Store("sqlite://")
    store.put(COMPARE, "key", report)
    assert store.get(COMPARE, "key") == report


# Documents of other kinds.


def test_a_document_comes_back_to_who_asks_for_its_kind_and_schema(store: Store, file: Path) -> None:
    assert store.get(KIND, "key") is None
    assert not file.exists()
    store.put(KIND, "key", Shouted("first"))
    store.put(KIND, "key", Shouted("second" * 10_000))
    store.put(KIND, "other", Shouted(""))
    assert store.get(KIND, "key") == Shouted("second" * 10_000)
    assert store.get(KIND, "other") == Shouted("")
    assert store.get(replace(KIND, name="another"), "key") is None
    assert store.get(replace(KIND, schema=2), "key") is None
    assert store.listed(COMPARE) == [] and store.get(COMPARE, "key") is None
    assert file.stat().st_size < 100_000


def test_deleting_forgets_documents_and_reports_alike(store: Store, report: Report) -> None:
    for key in ("key", "kept"):
        store.put(KIND, key, Shouted("document"))
    store.put(COMPARE, "report", report)
    store.delete("key")
    store.delete("report")
    assert store.get(KIND, "key") is None
    assert store.get(KIND, "kept") == Shouted("document")
    assert store.get(COMPARE, "report") is None


def test_a_damaged_document_is_absent(store: Store) -> None:
    store.put(KIND, "key", Shouted("document"))
    execute(store, "UPDATE qfund_documents SET document = :no", no=b"no zlib")
    assert store.get(KIND, "key") is None


def test_when_a_document_was_kept_is_known(store: Store) -> None:
    before = time.time()
    store.put(KIND, "key", Shouted("document"))
    ((created,),) = execute(store, "SELECT created FROM qfund_documents")
    assert before <= created <= time.time()


@pytest.mark.parametrize("first", ["put", "put another kind", "delete"])
def test_a_database_from_before_there_were_documents_gains_them(store: Store, report: Report, first: str) -> None:
    store.put(COMPARE, "key", report)
    execute(store, "DROP TABLE qfund_documents")
    later = Store(store._url)
    assert later.get(KIND, "document") is None
    assert later.get(COMPARE, "key") == report
    if first == "put":
        later.put(COMPARE, "another", report)
    elif first == "delete":
        later.delete("another")
    later.put(KIND, "document", Shouted("document"))
    assert later.get(KIND, "document") == Shouted("document")
    assert later.get(COMPARE, "key") == report
    assert "key" in [saved.key for saved in later.listed(COMPARE)]
    assert set(sa.inspect(later._engine).get_table_names()) == {*TABLES.tables, "qfund_revision"}


def test_a_dialect_without_upsert(store: Store, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(lambda connection: None)  # which knows its dialect
    monkeypatch.setattr(store._engine.dialect, "name", "another")
    store.put(COMPARE, "key", report)
    store.put(COMPARE, "key", renamed(report, "other"))
    found = store.get(COMPARE, "key")
    assert found is not None and found.spec.model == "other"


# Versions and damage.


def test_a_report_of_another_schema_is_absent(store: Store, report: Report) -> None:
    store.put(replace(COMPARE, schema=COMPARE.schema - 1), "older", report)
    store.put(replace(COMPARE, schema=COMPARE.schema + 1), "newer", report)
    store.put(COMPARE, "key", report)
    assert store.get(COMPARE, "older") is None
    assert store.get(COMPARE, "newer") is None
    assert [saved.key for saved in store.listed(COMPARE)] == ["key"]


def test_a_schema_that_was_raised_hides_earlier_reports(store: Store, report: Report) -> None:
    store.put(COMPARE, "key", report)
    raised = replace(COMPARE, schema=COMPARE.schema + 1)
    assert store.get(raised, "key") is None
    assert store.listed(raised) == []
    store.put(raised, "key", report)
    assert store.get(raised, "key") is not None


@pytest.mark.parametrize(
    "document", [b"", b"no zlib", zlib.compress(b"no JSON"), zlib.compress(b'{"schema": 1, "model": 5}')]
)
def test_an_unreadable_document_is_absent_and_can_be_replaced(store: Store, report: Report, document: bytes) -> None:
    store.put(COMPARE, "key", report)
    execute(store, "UPDATE qfund_reports SET document = :document", document=document)
    assert store.get(COMPARE, "key") is None
    assert [saved.key for saved in store.listed(COMPARE)] == ["key"]
    store.put(COMPARE, "key", report)
    assert store.get(COMPARE, "key") == report


@pytest.mark.parametrize("summary", ["", "{", '{"key": 1}', "null"])
def test_an_unreadable_line_is_left_out_of_the_listing(store: Store, report: Report, summary: str) -> None:
    store.put(COMPARE, "bad", report)
    store.put(COMPARE, "good", report)
    execute(store, "UPDATE qfund_reports SET summary = :line WHERE key = 'bad'", line=summary)
    assert [saved.key for saved in store.listed(COMPARE)] == ["good"]


def test_a_newer_database_is_refused_and_left_alone(store: Store, report: Report) -> None:
    store.put(COMPARE, "key", report)
    execute(store, "UPDATE qfund_meta SET value = :later WHERE name = 'schema'", later=str(engine_store.SCHEMA + 1))
    before = execute(store, "SELECT * FROM qfund_reports")
    for call in (
        lambda: store.get(COMPARE, "key"),
        lambda: store.listed(COMPARE),
        lambda: store.put(COMPARE, "key", report),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreError, match="newer qfund") as caught:
            call()
        assert "Update qfund" in caught.value.remedy
    assert execute(store, "SELECT * FROM qfund_reports") == before


def make_tables_of_an_earlier_version(store: Store) -> None:
    execute(
        store,
        "CREATE TABLE qfund_meta (name TEXT PRIMARY KEY, value TEXT)",
        "INSERT INTO qfund_meta VALUES ('schema', '0')",
        "CREATE TABLE qfund_reports (id INTEGER PRIMARY KEY, words TEXT)",
        "INSERT INTO qfund_reports VALUES (1, 'from long ago')",
    )


def set_aside(store: Store, schema: int) -> list[str]:
    return [name for name in sa.inspect(store._engine).get_table_names() if f"s_{schema}_" in name]


def test_tables_of_an_earlier_version_are_set_aside(store: Store, report: Report) -> None:
    make_tables_of_an_earlier_version(store)
    assert store.get(COMPARE, "key") is None
    assert store.listed(COMPARE) == []
    store.put(COMPARE, "key", report)
    assert store.get(COMPARE, "key") == report
    (name,) = set_aside(store, 0)
    assert execute(store, f"SELECT words FROM {name}") == [("from long ago",)]


def test_documents_of_an_earlier_version_are_set_aside_with_the_reports(
    store: Store, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(COMPARE, "key", report)
    store.put(KIND, "document", Shouted("document"))
    monkeypatch.setattr(engine_store, "SCHEMA", engine_store.SCHEMA + 1)
    store.put(KIND, "new", Shouted("new"))
    assert (store.get(KIND, "document"), store.get(KIND, "new")) == (None, Shouted("new"))
    assert store.get(COMPARE, "key") is None
    assert sorted(name.rsplit("_", 2)[0] for name in set_aside(store, 1)) == ["qfund_documents", "qfund_reports"]


@pytest.mark.parametrize("content", [b"This is no database at all. " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_an_error_with_a_remedy(store: Store, file: Path, report: Report, content: bytes) -> None:
    file.write_bytes(content)
    for call in (
        lambda: store.get(COMPARE, "key"),
        lambda: store.listed(COMPARE),
        lambda: store.put(COMPARE, "key", report),
    ):
        with pytest.raises(StoreError, match="damaged") as caught:
            call()
        assert str(file) in caught.value.message
        assert "Move it away" in caught.value.remedy
    assert file.read_bytes() == content


@pytest.mark.parametrize("url", ["nonsense", "foo://host/name", "postgresql+nodriver://user:secret@host/name"])
def test_an_unusable_url_is_an_error_on_use_that_keeps_the_password(url: str, report: Report) -> None:
    store = Store(url)
    assert isinstance(store.shared, bool)  # a server begins all the same
    for call in (
        lambda: store.get(COMPARE, "key"),
        lambda: store.listed(COMPARE),
        lambda: store.put(COMPARE, "key", report),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.remedy
        assert "secret" not in str(caught.value)


def test_a_url_with_too_few_slashes(report: Report) -> None:
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store("sqlite://folder/reports.db").put(COMPARE, "key", report)
    assert "sqlite:////folder/qfund.db" in caught.value.remedy


def test_a_folder_in_the_place_of_the_file(tmp_path: Path, report: Report) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path}").put(COMPARE, "key", report)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, report: Report) -> None:
    (tmp_path / "file").touch()
    store = Store(f"sqlite:///{tmp_path}/file/reports.db")
    assert store.get(COMPARE, "key") is None
    with pytest.raises(StoreError, match="cannot be opened"):
        store.put(COMPARE, "key", report)


def test_a_full_disk_leaves_what_was_there(store: Store, file: Path, report: Report) -> None:
    store.put(COMPARE, "key", report)
    script = """
import os, resource, sys
from pathlib import Path
from qfund.core.errors import StoreError
from qfund.features.compare.request.report import from_json
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
report = from_json(Path(sys.argv[2]).read_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    Store(sys.argv[1]).put(KINDS["compare"], "large", report)
except StoreError as error:
    print(error.message, "|", error.remedy)
"""
    document = file.with_suffix(".json")
    noise = os.urandom(200_000).hex()
    document.write_bytes(report_request.to_json(replace(report, spec=replace(report.spec, text=noise))))
    out, problems = run(script, f"sqlite:///{file}", document).communicate()
    assert "The disk of the database is full or failing" in out, problems
    assert "QFUND_HOME" in out
    assert store.get(COMPARE, "large") is None
    assert store.get(COMPARE, "key") == report


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.mark.parametrize("in_use", [False, True], ids=["at rest", "open in another process"])
def test_a_read_only_place_can_be_read(open_folder: Path, report: Report, in_use: bool) -> None:
    file = open_folder / "reports.db"
    Store(f"sqlite:///{file}").put(COMPARE, "key", report)
    other = sqlite3.connect(file)
    if in_use:
        other.execute("SELECT * FROM qfund_meta").fetchall()
    file.chmod(0o444)
    open_folder.chmod(0o555)
    script = """
import os, sys
from qfund.core.errors import StoreError
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from tests.features.compare.reports import make_report
report, compare = make_report(), KINDS["compare"]
store = Store(sys.argv[1])
store.get(compare, "no import is left to do")
if os.geteuid() == 0:
    os.seteuid(65534)  # permissions do not bind root
assert store.get(compare, "key") == report
assert [saved.key for saved in store.listed(compare)] == ["key"]
try:
    store.put(compare, "another", report)
except StoreError as error:
    print(error.message, "|", error.remedy)
"""
    out, problems = run(script, f"sqlite:///{file}").communicate()
    other.close()
    assert "cannot be written" in out, problems
    assert "write permission" in out


# Several writers.

WRITER = """
import sys
from pathlib import Path
from qfund.features.compare.request.report import from_json
from qfund.engine.store import Store
from qfund.engine.kinds import KINDS
from tests.engine import databases
from tests.engine.databases import execute, url_of
from tests.engine.toys import TOYS, Shouted
from tests.features.compare.reports import renamed
COMPARE, KIND = KINDS["compare"], TOYS["shout"]
report = from_json(Path(sys.argv[2]).read_bytes())
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for i in range(15):
    store.put(COMPARE, "shared", renamed(report, f"{sys.argv[3]}-{i}"))
    store.put(COMPARE, f"{sys.argv[3]}-{i}", renamed(report, f"{sys.argv[3]}-{i}"))
    store.put(KIND, "shared", Shouted(f"{sys.argv[3]}-{i}"))
    assert store.get(COMPARE, "shared") is not None
    assert len(store.listed(COMPARE)) > i
"""


@pytest.mark.parametrize(
    ("there", "database"),
    [
        *(("nothing", database) for database in databases.KINDS),
        ("tables of an earlier version", "sqlite"),
        ("no table of documents", "sqlite"),
    ],
)
def test_processes_may_write_at_once(store: Store, tmp_path: Path, report: Report, there: str) -> None:
    if there == "tables of an earlier version":
        make_tables_of_an_earlier_version(store)
    elif there == "no table of documents":
        store.put(COMPARE, "key", report)
        execute(store, "DELETE FROM qfund_reports", "DROP TABLE qfund_documents")
    document = tmp_path / "report.json"
    document.write_bytes(report_request.to_json(report))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store._url), str(document), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for name in ("a", "b", "c")
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:  # all are there: the file and its tables are made in the rush, too
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, problems = writer.communicate()
        assert writer.returncode == 0, problems
    for name in ("a", "b", "c"):
        for i in range(15):
            found = store.get(COMPARE, f"{name}-{i}")
            assert found is not None and found.spec.model == f"{name}-{i}"
    shared = store.get(COMPARE, "shared")
    assert shared is not None and shared.spec.model in ("a-14", "b-14", "c-14")
    assert store.get(KIND, "shared") in (Shouted("a-14"), Shouted("b-14"), Shouted("c-14"))
    assert len(store.listed(COMPARE)) == 46
    if store.file is not None:
        assert execute(store, "PRAGMA integrity_check") == [("ok",)]
        assert execute(store, "PRAGMA journal_mode") == [("wal",)]


def test_importing_the_store_imports_neither_torch_nor_pandas_and_makes_no_file(tmp_path: Path) -> None:
    script = (
        "import sys, qfund.engine.store; print({'torch', 'pandas', 'transformers', 'streamlit'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "QFUND_HOME": str(tmp_path / "home")}
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert out.stdout == "set()\n"
    assert not (tmp_path / "home").exists()
