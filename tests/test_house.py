"""The house: which way imports point, what is light, how large what may be, and that every feature's row is complete.
All of it by rule: of the names of folders and files, and of the rows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qfund.core.feature import Feature, lazily
from qfund.features import FEATURES
from tests import architecture
from tests.house import FILES, HEAVY, PARTS, ROOMS, ROOT, Place, allowed, imported, may_be_heavy, place, seen


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    wrong = [f"line {line}: qfund.{'.'.join(there)}" for line, there in seen(path) if not allowed(place(path), there)]
    assert not wrong, "; ".join(wrong)


def test_everything_has_its_room() -> None:
    assert {path.name for path in (ROOT / "qfund").iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)
    parts: set[Place] = {place(path)[2:3] for path in FILES if place(path)[:1] == ("features",)} - {()}
    assert parts == {(part,) for part in PARTS}


LIGHT = [path for path in FILES if not may_be_heavy(place(path))]


@pytest.mark.parametrize("path", LIGHT, ids=name_of)
def test_what_is_light_imports_no_torch(path: Path) -> None:
    wrong = [f"line {line}: {name}" for line, name in imported(path) if name.split(".")[0] in HEAVY]
    assert not wrong, "; ".join(wrong)


def test_all_that_is_light_comes_without_torch() -> None:
    """Every page's view, the command line, the engine: in one process, which a server's first visitor waits for."""
    modules = [".".join(("qfund", *place(path))) for path in LIGHT if path.is_relative_to(ROOT / "qfund")]
    modules.remove("qfund.__main__")  # which runs
    code = f"import sys, {', '.join(modules)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_can_be_read(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 500


def test_a_folder_can_be_overlooked() -> None:
    for folder in {path.parent for path in FILES} - {ROOT}:
        entries = [path for path in folder.iterdir() if path.name != "__pycache__"]
        assert len(entries) <= 20, f"{name_of(folder)} holds {len(entries)}"
    assert len([path for path in (ROOT / "qfund").iterdir() if path.is_file()]) <= 6


@pytest.mark.parametrize("path", sorted((ROOT / "pages").glob("*.py")), ids=lambda path: path.stem)
def test_a_page_only_arranges(path: Path) -> None:
    statements = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.stmt)]
    assert sum(not isinstance(node, ast.Import | ast.ImportFrom) for node in statements) <= 16  # the docstring is one


def lazy_names(row: Any) -> Iterator[str]:
    """The strings ``"qfund.…:object"`` in the fields of a row."""
    for name in row.__slots__:
        value = getattr(row, name)
        if isinstance(value, str) and value.startswith("qfund."):
            yield value


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_row_of_a_feature_is_complete(feature: Feature) -> None:
    if feature.page is not None:
        assert (ROOT / f"pages/{feature.page.path}.py").is_file()
    for kind in feature.kinds:
        for name in lazy_names(kind):
            assert callable(lazily(name)), name
    folder = ROOT / "qfund/features" / feature.name
    for command in feature.commands:
        files = folder / "command.py", folder / f"command/{command.replace('-', '_')}.py"
        assert any(path.is_file() for path in files), command
    for module in feature.warm:
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_names_are_given_once() -> None:
    rows = [kind.name for feature in FEATURES for kind in feature.kinds]
    pages = [feature.page.path for feature in FEATURES if feature.page is not None]
    commands = [command for feature in FEATURES for command in feature.commands]
    assert all(len(names) == len(set(names)) for names in (rows, pages, commands))
    assert sorted(pages) == sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    assert {feature.name for feature in FEATURES} == {
        path.parent.name for path in (ROOT / "qfund/features").glob("*/__init__.py")
    }


def test_browser_tests_wait_for_states_and_never_for_times() -> None:
    for path in (ROOT / "tests/browser").glob("*.py"):
        assert not re.search(r"\bsleep\(|wait_for_timeout|networkidle", path.read_text("utf-8")), name_of(path)


def test_tests_bound_processor_time_and_never_what_a_clock_says() -> None:
    """Beside other work a clock says more; who waits for something does so in tests/patience.py."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert not re.search(r"\b(?:perf_counter|monotonic)\(", path.read_text("utf-8")), name_of(path)


def test_the_picture_of_the_house_is_drawn_from_the_code() -> None:
    assert architecture.agrees(), "docs/architecture.md shows another house: run `make docs`"
