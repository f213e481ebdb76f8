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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Left out of the corpus: tests and data, and packages that distributions split off or later versions drop, so that a
# held-out unit is found on (nearly) every Python.
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})
_SKIPPED_TOP = frozenset({"lib2to3", "pydoc_data", "idlelib", "turtledemo", "distutils", "ensurepip", "tkinter"})
_C_MODULES = (
    "_bisect _codecs _collections _csv _datetime _decimal _elementtree _functools _hashlib _heapq _io _json _locale "
    "_operator _pickle _random _signal _socket _sqlite3 _sre _ssl _stat _string _struct _thread _tracemalloc _weakref "
    "array atexit builtins cmath errno faulthandler fcntl gc itertools marshal math mmap posix pwd pyexpat select sys "
    "time unicodedata zlib"
).split()
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


def _module_text(name: str) -> str:
    try:
        tree = ast.parse((_stdlib() / name).read_bytes())
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


def held_out_text(manifest: Path) -> str:
    """The held-out text that ``manifest`` names, in its order, as this Python carries it.

    The manifest is JSON: ``units`` (names, in reading order), ``python`` (the version that training read) and ``sha256``
    (of the text there), so that a caller can say where the text differs.
    """
    units: list[str] = json.loads(manifest.read_text("utf-8"))["units"]
    return "\n\n".join(text for text in map(read_unit, units) if text) + "\n"


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))
