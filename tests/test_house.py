"""The house: which way imports point, by the names of folders and files alone; what is light; what is how large."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Rooms, foundations first. A file imports from its own room and from those before it.
ROOMS = [
    "core",
    "precisions",
    "checkpoints",
    "inputs",
    "models",
    "stream",
    "drawing",
    "engine",
    "commandline",
    "ui",
    "features",
]

#: File (or folder) of a feature → what of its own feature it may import. A feature sees of another one its requests,
#: links, words, tables and figures.
PARTS = {
    "request": "request",
    "measure": "request measure",
    "link": "request tables link",
    "words": "request words",
    "tables": "request words tables",
    "figures": "request words tables figures",
    "command": "request words tables command",
    "view": "request link words tables figures view",
}

SEEN_BY_OTHERS = ["request", "link", "words", "tables", "figures"]

HEAVY = {"torch", "transformers", "tokenizers", "torchao", "bitsandbytes"}

#: Where torch may be imported.
HEAVY_PLACES = ("precisions/quantizers", "precisions/backends", "models", "stream", "snippets", "measure")

FILES = sorted([ROOT / "app.py", *(ROOT / "pages").glob("*.py"), *(ROOT / "qfund").rglob("*.py")])


def place(path: Path) -> tuple[str, ...]:
    """``qfund/features/memory/view/fit.py`` → ``("features", "memory", "view", "fit")``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return parts[1:] if parts[0] == "qfund" else ("app",)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def allowed(here: tuple[str, ...], there: tuple[str, ...]) -> bool:
    """Whether a file at ``here`` may import from ``there``, both without ``qfund``."""
    if not here or here[0] not in ROOMS:  # the package's own front: cli, __init__, pages, app
        return True
    if not there or there[0] not in ROOMS:
        return there[:1] == ("version",)
    if here[0] != "features" or there[0] != "features":
        return ROOMS.index(there[0]) <= ROOMS.index(here[0])
    if len(here) < 3:  # a row names its parts in strings; the list of features has all rows
        return len(here) == 1 and len(there) == 2
    if len(there) < 3:
        return False
    part, other = here[2], there[2]
    return other in (PARTS.get(part, part).split() if here[1] == there[1] else SEEN_BY_OTHERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    here = place(path)
    wrong = [
        f"line {line}: {name}"
        for line, name in imported(path)
        if name.split(".")[0] == "qfund" and not allowed(here, tuple(name.split(".")[1:]))
    ]
    assert not wrong, "; ".join(wrong)
