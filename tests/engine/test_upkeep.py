"""What the store holds, what goes and when, and copies of it."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qfund.commandline import keeping
from qfund.core import home as core_home
from qfund.core import machine
from qfund.core.errors import StoreError, UsageError
from qfund.core.home import cached, drop_cached
from qfund.core.request import holds_own
from qfund.engine import unfinished, upkeep
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.captions.request import CaptionRequest
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.request.plan import PlanRequest
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.inputs.texts import NamedText
from tests.engine import databases
from tests.engine.databases import execute, url_of
from tests.engine.test_engine import Bench, finished, running, spec
from tests.engine.toys import TOYS, Shouted
from tests.features.compare.reports import make_report

COMPARE, SHOUT = KINDS["compare"], TOYS["shout"]
OLD = "2020-01-01T00:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("QFUND_HOME", str(tmp_path))
    return Store()


@pytest.fixture(params=databases.KINDS)
def either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Store:
    """A store in any database."""
    monkeypatch.setenv("QFUND_DATABASE_URL", url_of(request.param, tmp_path / "qfund.db"))
    return Store()


def report(text: str | None = None, created: str | None = None) -> Report:
    found = make_report()
    return replace(found, spec=replace(found.spec, text=text), created=created or found.created)


def keys(store: Store) -> list[str]:
    return sorted(line.key for line in store.listed(COMPARE))


@pytest.mark.parametrize(
    ("request_", "own"),
    [
        (Spec("m"), False),
        (Spec("m", precisions=("int4",), max_tokens=7), False),
        (Spec("m", text=""), True),
        (Spec("m", texts=(NamedText("a", "b"),)), True),
        (PlanRequest("m"), False),
        (GenerationRequest("m"), False),
        (GenerationRequest("m", prompts=("mine",)), True),
        (CaptionRequest("m"), False),
    ],
)
def test_what_somebody_gave_is_told_from_what_everybody_has(request_: Spec, own: bool) -> None:
    assert holds_own(request_) is own


def test_sizes_count_what_is_there(either: Store) -> None:
    nothing = upkeep.sizes(either)
    assert (nothing.results, nothing.own.count, nothing.jobs, nothing.database or 0) == ((), 0, {}, 0)
    either.put(COMPARE, "own", report("mine"))
    either.put(COMPARE, "usual", report())
    either.put(SHOUT, "shout", Shouted("WORDS"))
    found = upkeep.sizes(either)
    assert {line.kind: line.count for line in found.results} == {"compare": 2, "shout": 1}
    assert found.own.count == 1 and 0 < found.own.bytes < sum(line.bytes for line in found.results)
    file = either.file
    assert found.database == (None if file is None else sum(at.stat().st_size for at in file.parent.glob("qfund.db*")))


def test_pruning_takes_what_is_old_or_own_or_too_much(either: Store) -> None:
    for key, text, created in (("a", None, OLD), ("b", "mine", OLD), ("c", "mine", None), ("d", None, None)):
        either.put(COMPARE, key, report(text, created))
    week = time.time() - 7 * upkeep.DAY
    assert upkeep.prune(either, before=week, own=True) == 1 and keys(either) == ["a", "c", "d"]
    assert upkeep.prune(either, before=week) == 1 and keys(either) == ["c", "d"]
    assert upkeep.prune(either, to_bytes=10**9) == 0
    each = upkeep.sizes(either).results[0].bytes // 2
    assert upkeep.prune(either, to_bytes=each + 100) == 1 and keys(either) == ["d"]  # somebody's own goes first
    assert upkeep.prune(either, to_bytes=0) == 1 and keys(either) == []


def test_pruned_space_is_given_back(store: Store) -> None:
    store.put(COMPARE, "large", report(os.urandom(500_000).hex()))
    before = upkeep.sizes(store).database
    upkeep.prune(store, to_bytes=0)
    after = upkeep.sizes(store).database
    assert before is not None and after is not None and after < before / 2


def test_a_server_lets_go_what_strangers_gave_and_keeps_its_quota(
    either: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, text, created in (("a", None, OLD), ("b", "mine", OLD), ("c", "mine", None)):
        either.put(COMPARE, key, report(text, created))
    unfinished.keep(either, COMPARE, "d", report("mine"))
    upkeep.tidy(either)
    assert keys(either) == ["a", "b", "c"]
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    upkeep.tidy(either)
    assert keys(either) == ["a", "c"]
    monkeypatch.setenv("QFUND_KEEP_DAYS", "0.0000001")
    upkeep.tidy(either)
    assert keys(either) == ["a"] and unfinished.find(either, COMPARE, "d") is None
    monkeypatch.setenv("QFUND_STORE_GIB", "0.0000001")
    upkeep.tidy(either)
    assert keys(either) == []
    monkeypatch.setenv("QFUND_STORE_GIB", "much")
    with pytest.raises(UsageError, match="QFUND_STORE_GIB"):
        upkeep.tidy(either)


def test_what_was_asked_for_is_not_kept_with_a_job_that_is_over(tmp_path: Path) -> None:
    from qfund.engine.shared.ledger import REMEMBERED, Ledger

    bench = Bench(tmp_path, Store(f"sqlite:///{tmp_path}/qfund.db"))
    jobs = bench.jobs(ledger=Ledger(bench.store))
    finished(jobs, jobs.submit(spec("fail")))
    waits = jobs.submit(spec("wait"))
    running(jobs, waits)

    def requests() -> list[str]:
        return [row[0] for row in execute(bench.store, "SELECT request FROM qfund_jobs ORDER BY submitted")]

    upkeep.tidy(bench.store)
    assert all(requests())
    execute(bench.store, "UPDATE qfund_jobs SET finished = finished - :days", days=REMEMBERED)
    upkeep.tidy(bench.store)
    first, second = requests()
    assert not first and "wait" in second
    jobs.close()


def test_a_copy_has_all_and_replaces_nothing_that_is_newer(either: Store, tmp_path: Path) -> None:
    either.put(COMPARE, "both", report("old", OLD))
    either.put(COMPARE, "one", report())
    either.put(SHOUT, "shout", Shouted("WORDS"))
    other = Store(f"sqlite:///{tmp_path}/other.db")
    other.put(COMPARE, "both", report("new"))
    assert upkeep.copy(either, other) == 2
    assert upkeep.copy(either, other) == 0
    found = other.get(COMPARE, "both")
    assert found is not None and found.spec.text == "new"
    assert other.get(COMPARE, "one") == report() and other.get(SHOUT, "shout") == Shouted("WORDS")
    assert upkeep.copy(other, either) == 1 and either.get(COMPARE, "both") == found


def test_a_database_from_before_there_were_steps_is_copied_from(tmp_path: Path) -> None:
    (recorded,) = (Path(__file__).parents[1] / "golden/recorded").glob("*.sqlite")
    source = Store(f"sqlite:///{shutil.copy(recorded, tmp_path / 'old.db')}")
    target = Store(f"sqlite:///{tmp_path}/new.db")
    counted = sum(line.count for line in upkeep.sizes(source).results)
    assert upkeep.copy(source, target) == counted > 0
    assert target.listed(COMPARE) == source.listed(COMPARE)


# The disk.


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.safetensors"))


def test_results_go_before_entries_of_the_cache(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("quantised/new", "quantised/old", "rounds/oldest")):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 - age, 1e9 - age))
    assert cached() == 3000
    monkeypatch.setattr(core_home, "free_bytes", lambda folder: 10**12)
    store.put(COMPARE, "key", report())
    assert len(entries(tmp_path)) == 3
    monkeypatch.setattr(core_home, "free_bytes", lambda folder: machine.RESERVE - 500)
    store.put(SHOUT, "key", Shouted("WORDS"))  # a few bytes: one entry is enough
    assert entries(tmp_path) == ["new.safetensors", "old.safetensors"]
    assert drop_cached() == 2000 and cached() == 0


def test_free_bytes_are_those_of_the_disk_that_a_folder_will_lie_on(tmp_path: Path) -> None:
    assert machine.free_bytes(tmp_path / "not" / "there" / "yet") > 0


# The command.


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    from qfund.commandline.parser import parser

    options = parser("store", "", keeping.COMMAND).parse_args(arguments)
    options.run(options)
    return capsys.readouterr().out


def test_the_command_tells_prunes_and_carries(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.put(COMPARE, "old", report("mine", OLD))
    store.put(COMPARE, "new", report())
    told = command(capsys, "size")
    assert "compare" in told and "of own texts and pictures" in told and "free on the disk" in told
    file = str(tmp_path / "out.db")
    assert command(capsys, "export", "--file", file) == f"2 results written to {file}\n"
    assert command(capsys, "prune", "--older-than", "30", "--own") == "1 result deleted\n"
    assert command(capsys, "prune", "--to", "0", "--cache").startswith("1 result deleted\n0 B of the cache")
    assert command(capsys, "import", "--file", file) == f"2 results taken from {file}\n"
    assert keys(store) == ["new", "old"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prune",), "--older-than"),
        (("prune", "--older-than", "soon"), "'soon' is no number"),
        (("size", "--cache"), "deletes nothing"),
        (("size", "--file", "f"), "takes no --file"),
        (("export",), "--file"),
        (("export", "--file", __file__), "there already"),
        (("export", "--file", "/tmp/none.db"), "no store yet"),
        (("import", "--file", "/no/such/file"), "is no file"),
        (("melt",), "melt"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(
    store: Store, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=words):
        command(capsys, *arguments)


def test_a_file_that_is_no_database_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match="no database"):
        command(capsys, "import", "--file", __file__)
