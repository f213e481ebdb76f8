"""Whatever is moved and renamed: commands, links and stored results do what they did when ``record`` was run."""

import json
from pathlib import Path

import pytest

from tests.golden import machine, masks
from tests.golden.cases import COMMANDS, LINKS, LOADS, STORED
from tests.golden.record import MACHINE, MEASURED, RECORDED, measured, perform_part

#: Differences that are meant: the case, and why. Its text stands in ``recorded/improved/``, beside the earlier one.
IMPROVED: dict[str, str] = {}

SAME_MACHINE = machine.same(MACHINE)


@pytest.fixture(scope="module")
def performed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of parts that were done in this run, each once."""
    return {}


@pytest.fixture
def found(performed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, part: str) -> Path:
    if part not in performed:
        folder = tmp_path_factory.mktemp(part)
        performed[part] = folder
        perform_part(part, folder)
    return performed[part]


CASES = [(part, case.name) for part, cases in (("commands", COMMANDS), ("loads", LOADS)) for case in cases]
CASES += [("stored", case.name) for case in STORED] + [("pages", link.name) for link in LINKS]


@pytest.mark.parametrize(("part", "name"), CASES, ids=[name for _, name in CASES])
def test_it_does_what_it_did(part: str, name: str, found: Path) -> None:
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
