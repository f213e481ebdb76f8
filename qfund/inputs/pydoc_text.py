"""The documentation text that every Python installation carries, read from the running Python.

Three groups of *units* make the corpus, each unit with a stable name:

- ``module:json/decoder.py``: the docstrings of a standard-library module, parsed from its source (never imported);
- ``builtin:math``: the docstrings of a module written in C, by introspection;
- ``topic:if``: a topic of the language reference, as ``help('if')`` prints it.

No text is copied into the repository: a manifest lists the names of the held-out units, and their text is read here.
"""

import ast
import hashlib
import importlib
import inspect
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Left out of the corpus: tests and data, and packages that distributions split off or later versions drop, so that a
# held-out unit is found on (nearly) every Python.
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})
_SKIPPED_TOP = frozenset({"lib2to3", "pydoc_data", "idlelib", "turtledemo", "distutils", "ensurepip", "tkinter"})
_C_MODULES = tuple(
    """
_bisect _codecs _collections _csv _datetime _decimal _elementtree _functools _hashlib _heapq _io _json _locale
_operator _pickle _random _signal _socket _sqlite3 _sre _ssl _stat _string _struct _thread _tracemalloc _weakref
array atexit builtins cmath errno faulthandler fcntl gc itertools marshal math mmap posix pwd pyexpat select sys
time unicodedata zlib
""".split()  # noqa: SIM905 - a list of this length reads better as words
)
_SHORTEST = 20  # characters: a shorter docstring says nothing a language model could learn


def _stdlib() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _module_names() -> Iterator[str]:
    root = _stdlib()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        folders = relative.parts[:-1]
        if _SKIPPED_FOLDERS.intersection(folders) or (folders and folders[0] in _SKIPPED_TOP):
            continue
        if any(folder.startswith("config-") for folder in folders):
            continue
        yield f"module:{relative.as_posix()}"


def source(name: str) -> bytes:
    """Of a module of the standard library: ``json/decoder.py``. Raises ``OSError`` where this Python has none."""
    return (_stdlib() / name).read_bytes()


def _module_text(name: str) -> str:
    try:
        tree = ast.parse(source(name))
    except (OSError, SyntaxError, ValueError):
        return ""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        if not docstring or len(docstring) <= _SHORTEST:
            continue
        if isinstance(node, ast.Module):
            signature = ""
        elif isinstance(node, ast.ClassDef):
            signature = f"class {node.name}:\n"
        else:
            signature = f"def {node.name}({ast.unparse(node.args)}):\n"
        found.append((getattr(node, "lineno", 0), signature + docstring.strip()))
    found.sort(key=lambda pair: pair[0])
    return "\n\n".join(text for _, text in found)


def _builtin_text(name: str) -> str:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return ""
    texts: dict[str, None] = {}  # an ordered set: aliases share one docstring

    def add(signature: str, docstring: Any) -> None:
        if isinstance(docstring, str) and len(docstring) > _SHORTEST:
            texts.setdefault(signature + inspect.cleandoc(docstring).strip())

    def public(owner: Any) -> list[tuple[str, Any]]:
        return [(key, vars(owner)[key]) for key in sorted(vars(owner)) if not key.startswith("__")]

    add("", module.__doc__)
    for key, value in public(module):
        if inspect.isclass(value):
            add(f"class {key}:\n", value.__doc__)
            for inner, member in public(value):
                add(f"def {inner}(...):\n", getattr(member, "__doc__", None))
        elif callable(value):
            add(f"def {key}(...):\n", value.__doc__)
    return "\n\n".join(texts)


def _topics() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # a minimal distribution package leaves it out
        return {}
    return {str(name): str(text) for name, text in topics.items()}


def unit_names() -> list[str]:
    """Names of every unit of this Python's documentation, in a fixed order."""
    return [*_module_names(), *(f"builtin:{name}" for name in _C_MODULES), *(f"topic:{name}" for name in _topics())]


def read_unit(name: str) -> str:
    """The text of one unit; empty where this Python does not carry it."""
    group, _, inner = name.partition(":")
    if group == "module":
        return _module_text(inner)
    if group == "builtin":
        return _builtin_text(inner)
    return _topics().get(inner, "").strip()


def name_order(name: str) -> str:
    """A key that shuffles names the same way everywhere."""
    return hashlib.sha256(f"qfund:{name}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which units were held out of training: names in reading order, the Python that training read them from, and the
    digest of their text there, so that a caller can say where the running Python's text differs."""

    units: tuple[str, ...]
    python: str
    sha256: str


def read_manifest(path: Path) -> Manifest:
    found = json.loads(path.read_text("utf-8"))
    return Manifest(tuple(found["units"]), found["python"], found["sha256"])


def held_out_text(manifest: Manifest) -> str:
    """The text of the held-out units, in the manifest's order, as the running Python carries it."""
    return join(text for text in map(read_unit, manifest.units) if text)


def join(texts: Iterable[str]) -> str:
    return "\n\n".join(texts) + "\n"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))
