"""What is put off acts, when it is used, as what it stands for; a library made here is put off in torch's place."""

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qfund.precisions.backends import postponed

LIBRARY = """
class Thing:
    kind = "thing"
    def __init__(self, size=1):
        self.size = size
def double(number):
    return 2 * number
def marked(function, word="!"):
    return lambda *given: f"{function(*given)}{word}"
def marking(function=None, word="?"):
    return (lambda inner: marked(inner, word)) if function is None else marked(function, word)
"""
USER = """
import late.inner as inner
from late.inner import Thing, double, marked, marking
@marked
def greet(name):
    return f"hello {name}"
@marking(None, word="…")
def ask(name):
    return f"what {name}"
class Holder:
    @marked
    def name(self):
        return "holder"
def grown():
    class Large(Thing):
        pass
    return Large(3)
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that has imported the library while it was put off."""
    (tmp_path / "late").mkdir()
    (tmp_path / "late/__init__.py").write_text("")
    (tmp_path / "late/inner.py").write_text(LIBRARY)
    (tmp_path / "late_user.py").write_text(USER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [postponed._Finder(["late"]), *sys.meta_path])
    module = importlib.import_module("late_user")
    postponed._leave()
    yield module
    for name in ("late", "late.inner", "late_user"):
        sys.modules.pop(name, None)


def test_nothing_stays_where_imports_look(user: ModuleType) -> None:
    assert "late" not in sys.modules and "late.inner" not in sys.modules
    assert importlib.import_module("late.inner").double(4) == 8
    assert not any(isinstance(module, postponed.StandIn) for module in sys.modules.values())


def test_a_use_imports(user: ModuleType) -> None:
    assert user.double(3) == 6
    assert "late.inner" in sys.modules


def test_classes(user: ModuleType) -> None:
    assert user.Thing.kind == "thing" and user.Thing(2).size == 2
    assert isinstance(user.inner.Thing(), user.Thing) and not isinstance("text", user.Thing)
    large = user.grown()
    assert large.size == 3 and isinstance(large, importlib.import_module("late.inner").Thing)


def test_a_mark_on_a_function_counts_once_the_library_is_there(user: ModuleType) -> None:
    assert (user.greet("you"), user.ask("now"), user.Holder().name()) == ("hello you", "what now", "holder")
    assert "late.inner" not in sys.modules
    importlib.import_module("late.inner")
    assert (user.greet("you"), user.ask("now"), user.Holder().name()) == ("hello you!", "what now…", "holder!")


def test_what_is_used_while_it_is_put_off_ends_that(tmp_path: Path, user: ModuleType) -> None:
    for name in ("late", "late.inner"):
        sys.modules.pop(name, None)
    (tmp_path / "late_eager.py").write_text("from late.inner import double\nfound = double(21)\n")
    sys.meta_path.insert(0, postponed._Finder(["late"]))
    try:
        assert importlib.import_module("late_eager").found == 42
        assert not any(isinstance(finder, postponed._Finder) for finder in sys.meta_path)
    finally:
        sys.modules.pop("late_eager", None)


def test_the_models_that_transformers_knows_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import models
    from transformers.utils.import_utils import create_import_structure_from_path, spread_import_structure

    file = str(models.__file__)
    read = []

    @functools.cache
    def scan(path: Path | str, prefix: str | None = None) -> Any:
        read.append(path)
        found = spread_import_structure(create_import_structure_from_path(str(path)))
        return {needs: {f"{prefix}.{name}": of for name, of in modules.items()} for needs, modules in found.items()}

    whole = scan(Path(file).parent, prefix="models")
    whole[frozenset()]["generation"] = {"GenerationMixin"}  # as transformers adds what are no models
    found = postponed._scanned(scan, file)
    assert read == [Path(file).parent]
    assert found == spread_import_structure(create_import_structure_from_path(file))
