"""Whatever is moved and renamed: commands, links and stored results do what they did when ``record`` was run."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.golden import machine, masks
from tests.golden.cases import COMMANDS, LINKS, LOADS, STORED
from tests.golden.improved import IMPROVED
from tests.golden.record import MACHINE, MEASURED, PARTS, RECORDED, measured, perform_part

SAME_MACHINE = machine.same(MACHINE)


@pytest.fixture(scope="module")
def performed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Path]]]:
    """The folder of each part that a chosen test looks at, done once, two at a time."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {params.get("part") for params in chosen}
    # Here, and not in the threads: the first folder of a session empties the place of all.
    folders = {part: tmp_path_factory.mktemp(part) for part in PARTS if part in wanted}

    def perform(part: str) -> Path:
        perform_part(part, folders[part])
        return folders[part]

    with ThreadPoolExecutor(2) as pool:
        yield {part: pool.submit(perform, part) for part in folders}


CASES = [(part, case.name) for part, cases in (("commands", COMMANDS), ("loads", LOADS)) for case in cases]
CASES += [("stored", case.name) for case in STORED] + [("pages", link.name) for link in LINKS]


@pytest.mark.parametrize(("part", "name"), CASES, ids=[name for _, name in CASES])
def test_it_does_what_it_did(part: str, name: str, performed: dict[str, Future[Path]]) -> None:
    found = performed[part].result()
    recorded = RECORDED / ("improved" if name in IMPROVED else part) / f"{name}.txt"
    differs = masks.difference(
        recorded.read_text("utf-8"), (found / f"{name}.txt").read_text("utf-8"), same_machine=SAME_MACHINE
    )
    assert not differs, f"{name} differs:\n{differs}"


def test_every_record_has_its_case() -> None:
    there = {(path.parent.name, path.stem) for path in RECORDED.glob("*/*.txt")}
    assert there == {*CASES, *(("improved", name) for name in IMPROVED)}
    assert set(IMPROVED) <= {name for _, name in CASES}


def test_results_that_ship_are_untouched() -> None:
    assert measured() == json.loads(MEASURED.read_text("utf-8"))


@pytest.mark.parametrize(
    ("times", "here", "elsewhere"),
    [(1, False, False), (1 + 1e-13, True, False), (1.004, True, True)],
)
def test_a_number_that_changes_is_seen(times: float, here: bool, elsewhere: bool) -> None:
    recorded = (RECORDED / "commands/compare-dummy-json.txt").read_text("utf-8")
    number = re.findall(r"\d\.\d{14,}", recorded)[0]
    tampered = recorded.replace(number, str(times * float(number)), 1)
    assert bool(masks.difference(recorded, tampered, same_machine=True)) == here
    assert bool(masks.difference(recorded, tampered, same_machine=False)) == elsewhere


def test_a_word_that_changes_is_seen_on_every_machine() -> None:
    recorded = (RECORDED / "commands/compare-dummy.txt").read_text("utf-8")
    for same in (True, False):
        assert "indecisive" in masks.difference(recorded, recorded.replace("undecided", "indecisive"), same)
