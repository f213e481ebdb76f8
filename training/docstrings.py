"""Docstrings of the running Python one by one, each with the kind of what it documents, split by module: what
``training.docstring_kinds`` and ``training.docstring_vectors`` are trained on and asked about."""

import ast
import importlib
import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfund.inputs import pydoc_text

KINDS = ("module", "class", "exception", "function", "method", "property")

HELD_OUT_SHARE = 0.1  # of the characters of Python modules, and of modules written in C

LARGEST_HELD_OUT = 0.03

_LEAST = 20  # characters of a docstring

_EXCEPTION = ("Error", "Exception", "Warning")  # how the names of an exception's bases end


@dataclass(frozen=True, slots=True)
class Docstring:
    """One docstring. ``unit`` as in ``pydoc_text``; ``name`` is dotted, and empty for a module's own."""

    unit: str
    name: str
    kind: str
    text: str


def documented(unit: str) -> list[Docstring]:
    """The docstrings of one unit, each text once for each kind; topics of the language reference have none."""
    group, _, name = unit.partition(":")
    found = {"module": _of_source, "builtin": _of_binary}[group](name) if group != "topic" else iter(())
    once = {(kind, text): Docstring(unit, called, kind, text) for called, kind, text in found if len(text) > _LEAST}
    return list(once.values())


def _of_source(name: str) -> Iterator[tuple[str, str, str]]:
    """Dotted name, kind and text of everything in a module's source, which is not imported."""
    try:
        tree = ast.parse(pydoc_text.source(name))
    except (OSError, SyntaxError, ValueError):
        return
    yield "", "module", (ast.get_docstring(tree) or "").strip()
    yield from _inside(tree, "", False)


def _inside(owner: ast.AST, prefix: str, in_class: bool) -> Iterator[tuple[str, str, str]]:
    for node in ast.iter_child_nodes(owner):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, _kind(node, in_class), (ast.get_docstring(node) or "").strip()
            yield from _inside(node, f"{prefix}{node.name}.", isinstance(node, ast.ClassDef))
        else:
            yield from _inside(node, prefix, in_class)


def _kind(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool) -> str:
    if isinstance(node, ast.ClassDef):
        return "exception" if any(ast.unparse(base).endswith(_EXCEPTION) for base in node.bases) else "class"
    if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
        return "property"
    return "method" if in_class else "function"


def _of_binary(name: str) -> Iterator[tuple[str, str, str]]:
    """Of a module written in C, by introspection."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return
    yield "", "module", _documentation(module)
    for key, value in _public(module):
        if inspect.isclass(value):
            yield key, "exception" if issubclass(value, BaseException) else "class", _documentation(value)
            for inner, member in _public(value):
                if callable(member) or inspect.isdatadescriptor(member):
                    kind = "method" if callable(member) else "property"
                    yield f"{key}.{inner}", kind, _documentation(member)
        elif callable(value):
            yield key, "function", _documentation(value)


def _public(owner: Any) -> list[tuple[str, Any]]:
    return [(key, vars(owner)[key]) for key in sorted(vars(owner)) if not key.startswith("__")]


def _documentation(value: Any) -> str:
    found = getattr(value, "__doc__", None)
    return inspect.cleandoc(found).strip() if isinstance(found, str) else ""


def split_corpus() -> tuple[list[Docstring], list[Docstring]]:
    """Docstrings to train on and docstrings held out, a module's all on one side. No held-out paragraph is in training.

    Modules are taken in the order that ``training.pydoc_llama`` takes them, so what it held out is held out here too.
    """
    units = {name: found for name in pydoc_text.unit_names() if (found := documented(name))}
    held: set[str] = set()
    for group in ("module", "builtin"):
        sizes = {
            name: sum(len(each.text) for each in found) for name, found in units.items() if name.startswith(f"{group}:")
        }
        total, taken = sum(sizes.values()), 0
        for name in sorted(sizes, key=pydoc_text.name_order):
            if taken >= HELD_OUT_SHARE * total:
                break
            if sizes[name] <= LARGEST_HELD_OUT * total:
                held.add(name)
                taken += sizes[name]
    kept = [each for name in sorted(held, key=pydoc_text.name_order) for each in units[name]]
    seen = {paragraph for each in kept for paragraph in paragraphs(each.text)}
    training = [
        each
        for name, found in units.items()
        if name not in held
        for each in found
        if not seen.intersection(paragraphs(each.text))
    ]
    return training, kept


def paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


def manifest(held: Sequence[Docstring]) -> str:
    """What ``held_out.json`` says: names of units, never their text."""
    facts = {
        "units": list(dict.fromkeys(each.unit for each in held)),
        "python": pydoc_text.python_version(),
        "docstrings": len(held),
        "sha256": pydoc_text.digest(pydoc_text.join(each.text for each in held)),
    }
    return json.dumps(facts, indent=1) + "\n"


def held_out(folder: Path) -> list[Docstring]:
    """The held-out docstrings of a shipped model, as the running Python carries them."""
    units = pydoc_text.read_manifest(folder / "held_out.json").units
    return [each for unit in units for each in documented(unit)]
