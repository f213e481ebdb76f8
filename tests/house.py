"""The house as its rule has it and as the code has it: rooms, the parts of a feature, files and what they import."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Rooms, foundations first. A file imports from its own room and from those before it.
ROOMS = (
    *("core", "precisions", "checkpoints", "inputs", "models", "stream"),
    *("drawing", "engine", "commandline", "ui", "features"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a folder, of a feature: what it holds, and what it may import of its own feature."""

    holds: str
    imports: tuple[str, ...]


PARTS = {
    "request": Part(
        "what is asked and what is answered: frozen data, checks, what is worked out of them", ("request",)
    ),
    "measure": Part("request → result; it may import torch", ("request", "measure")),
    "link": Part("request ↔ the query of an address", ("request", "tables", "link")),
    "words": Part("result → sentences", ("request", "words")),
    "tables": Part("result → frames", ("request", "words", "tables")),
    "figures": Part("result → Plotly figures", ("request", "words", "tables", "figures")),
    "document": Part(
        "result → a document to take along: HTML, SVG, Markdown", ("request", "words", "tables", "document")
    ),
    "command": Part("the sub-command", ("request", "words", "tables", "document", "command")),
    "view": Part(
        "the page: choices → request → result → words and figures",
        ("request", "link", "words", "tables", "figures", "document", "view"),
    ),
    "snippets": Part("code as in a notebook, shown and run", ("snippets",)),
}

#: What a feature sees of another one.
SEEN_BY_OTHERS = ("request", "link", "words", "tables", "figures")

#: What the web process and the command line never wait for.
HEAVY = {"torch", "transformers", "tokenizers", "torchao", "bitsandbytes"}

FILES = sorted([ROOT / "app.py", *(ROOT / "pages").glob("*.py"), *(ROOT / "qfund").rglob("*.py")])

Place = tuple[str, ...]


def place(path: Path) -> Place:
    """``qfund/features/memory/view/fit.py`` → ``("features", "memory", "view", "fit")``; of pages and the app
    ``("app",)``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return parts[1:] if parts[0] == "qfund" else ("app",)


@cache
def imported(path: Path) -> tuple[tuple[int, str], ...]:
    """Line and dotted name of all that a file imports, inside functions and for type checking too."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def seen(path: Path) -> Iterator[tuple[int, Place]]:
    """Line and place of what a file imports from qfund; a place may go on with the name of an object."""
    for line, name in imported(path):
        first, *rest = name.split(".")
        if first == "qfund":
            yield line, tuple(rest)


def allowed(here: Place, there: Place) -> bool:
    """Whether a file at ``here`` may import from ``there``."""
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
    return there[2] in (PARTS[here[2]].imports if here[1] == there[1] else SEEN_BY_OTHERS)


def may_be_heavy(here: Place) -> bool:
    """Whether a file may import torch: what computes with tensors, and nothing that a page or a command imports."""
    if here[:1] == ("features",):
        return here[2:3] in (("measure",), ("snippets",))
    return here[:1] in (("models",), ("stream",)) or here[:2] in (
        ("precisions", "quantizers"),
        ("precisions", "backends"),
    )
