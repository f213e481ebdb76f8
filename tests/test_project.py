"""What the files around the code promise: imports point one way, the container, the requirements, what CI runs."""

import ast
import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]

#: The rooms of the house, foundations first. A file imports from its own room and from lower floors only.
FLOORS = (
    "errors units version",
    "names quantisation intervals codes home progress",
    "precisions metrics pydoc_text budgets kv_cache picture_files shapes number_formats linear_quantiser",
    "matrices quantiser_words number_format_tables",
    "spec",
    "report fits chunks",
    "chunk_sums",
    "load_peaks captions",
    "checkpoint",
    "catalog",
    "lesson pictures hub backends prompts side_by_side",
    "weights",
    "plan lessons course generation classes embeddings",
    "questions",
    "tasks",
    "quantizers",
    "footprint prequantised",
    "skeleton",
    "loading",
    "inputs environment",
    "stream",
    "measures",
    "store",
    "engine",
    "words memory_words",
    "verdict",
    "tables",
    "memory_tables fidelity_tables caption_tables output_words lesson_words",
    "fidelity_words output_tables lesson_tables",
    "figures",
    "memory_figures fidelity_figures caption_figures output_figures lesson_figures number_format_figures",
    "commands",
    "cli ui",
    "__init__ __main__ pages app snippets",
)

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}

#: Rooms that never wait for torch: the web process imports them.
LIGHT_ROOMS = (
    "errors units version names quantisation home precisions metrics pydoc_text spec report checkpoint chunks catalog",
    "store words tables figures ui pages app commands budgets kv_cache fits load_peaks plan",
    "memory_words memory_tables memory_figures intervals chunk_sums verdict codes",
    "fidelity_tables fidelity_words fidelity_figures",
    "captions caption_tables caption_figures picture_files shapes",
    "progress prompts side_by_side generation classes embeddings output_words output_tables output_figures",
    "lessons course questions lesson_words lesson_tables lesson_figures",
    "number_formats number_format_tables number_format_figures linear_quantiser matrices quantiser_words weights",
)

LIGHT = {room for rooms in LIGHT_ROOMS for room in rooms.split()}

FILES = sorted([ROOT / "app.py", *(ROOT / "pages").glob("*.py"), *(ROOT / "qfund").rglob("*.py")])


def room_of(path: Path) -> str:
    """``qfund/ui/shell.py`` is in ``ui``, ``qfund/spec.py`` in ``spec``."""
    first, *rest = path.relative_to(ROOT).parts
    return Path(rest[0] if first == "qfund" else first).stem


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            module = node.module or ""
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room_named(name: str) -> str | None:
    """The room that a dotted name leads to, None outside of the house: ``qfund.ui.shell`` leads to ``ui``, and
    ``qfund.compare`` to the package's own ``__init__``."""
    first, *rest = name.split(".")
    if first != "qfund":
        return None
    return rest[0] if rest and rest[0] in FLOOR else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    here = room_of(path)
    assert here in FLOOR, f"{here} has no floor: give it one in FLOORS"
    wrong = [
        f"line {line}: {here} imports {name}"
        for line, name in imported(path)
        if (there := room_named(name)) is not None and there != here and FLOOR[there] >= FLOOR[here]
    ]
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize("path", [path for path in FILES if room_of(path) in LIGHT], ids=lambda path: path.stem)
def test_light_rooms_import_no_torch(path: Path) -> None:
    heavy = {"torch", "transformers", "tokenizers"}
    wrong = [f"line {line}: {name}" for line, name in imported(path) if name.split(".")[0] in heavy]
    assert not wrong, "; ".join(wrong)


def requirements(name: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_have_bounds_that_hold_here(name: str) -> None:
    for requirement in requirements(name):
        assert requirement.specifier, f"{requirement} has no bound"
        assert metadata.version(requirement.name) in requirement.specifier


def test_torch_is_pinned() -> None:
    # Any other release that pip may choose brings gigabytes of CUDA to a machine that has a CPU build of this one.
    assert "torch==2.13.0" in map(str, requirements("requirements.txt"))


def test_no_file_names_a_package_index() -> None:
    for name in ("Makefile", "Dockerfile", "requirements.txt", "requirements-dev.txt", "pyproject.toml", ".ci/run"):
        assert not re.search(r"://(?!127\.0\.0\.1)", (ROOT / name).read_text()), f"{name} names a host"


def test_ci_runs_make_test() -> None:
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    assert re.search(r"^(exec )?make test$", run.read_text(), re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for line in text.splitlines() if line for word, _, rest in [line.partition(" ")]]


def environment() -> dict[str, str]:
    """What the container sets."""
    pairs = re.findall(r'(\w+)=("[^"]*"|\S*)', " ".join(rest for word, rest in instructions() if word == "ENV"))
    return {name: value.strip('"') for name, value in pairs}


def test_container_is_slim_and_its_server_is_nobody_special() -> None:
    assert [rest.split()[0] for word, rest in instructions() if word == "FROM"] == ["python:3.11-slim"] * 2
    assert [rest for word, rest in instructions() if word == "USER"] == ["1000"]


def test_container_is_public_and_opens_shipped_models_only() -> None:
    assert environment()["QFUND_PUBLIC"] == "1"
    assert environment()["QFUND_ALLOW"] == ""
    assert environment()["QFUND_HOME"].startswith(environment()["HOME"] + "/")


def test_container_serves_and_checks_the_port_it_is_given() -> None:
    by_word = dict(instructions())
    assert environment()["PORT"] == by_word["EXPOSE"] == "7860"
    assert '--server.port \\"$PORT\\"' in by_word["CMD"]
    assert "/_stcore/health" in by_word["HEALTHCHECK"] and 'os.environ[\\"PORT\\"]' in by_word["HEALTHCHECK"]
    assert "urllib" in by_word["HEALTHCHECK"]


def test_container_gets_all_that_the_dashboard_runs_on() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {".streamlit", "app.py", "models", "pages", "pyproject.toml", "qfund", "requirements.txt"} <= sent
    assert all((ROOT / name).exists() for name in sent)
