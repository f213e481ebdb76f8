"""More kinds of jobs. ``python -m tests.engine.toys`` is the real worker that knows them too."""

import importlib
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from qfund.core.errors import InvalidSpec
from qfund.core.feature import Kind
from qfund.engine.kinds import KINDS
from qfund.engine.worker import main


@dataclass(frozen=True, slots=True)
class Sum:
    model: str
    numbers: tuple[int, ...]
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """``nth``: how many sums this process has made."""

    total: int
    nth: int


@dataclass(frozen=True, slots=True)
class Shout:
    model: str
    words: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Shouted:
    words: str


_sums: list[Sum] = []


def add(request: Sum, progress: Callable[[str, float], None]) -> Total:
    _sums.append(request)
    if sum(request.numbers) < 0:
        progress(f"pid {os.getpid()}", 0.5)
        threading.Event().wait()
    return Total(sum(request.numbers), len(_sums))


def in_order(request: Sum) -> Sum:
    if not request.numbers:
        raise InvalidSpec("There is nothing to add.", "Give a number.")
    return replace(request, numbers=tuple(sorted(request.numbers)))


def shout(request: Shout, progress: Callable[[str, float], None]) -> Shouted:
    if request.words == "wrong":
        return Total(1, 1)  # type: ignore[return-value]
    return Shouted(request.words.upper())


@dataclass(frozen=True, slots=True)
class Murmur:
    model: str
    words: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Murmured:
    words: str
    pid: int


def murmur(request: Murmur, progress: Callable[[str, float], None]) -> Murmured:
    """Quick, and says which process did it."""
    if request.words == "wait":
        threading.Event().wait()
    return Murmured(request.words, os.getpid())


@dataclass(frozen=True, slots=True)
class Hoard:
    model: str
    gib: int
    revision: str | None = None


def hoard(request: Hoard, progress: Callable[[str, float], None]) -> Total:
    """Takes more and more memory, and holds the last of it until somebody ends it."""
    held = [bytearray(os.urandom(1 << 20) * 16) for _ in range(request.gib * 64)]
    threading.Event().wait()
    return Total(len(held), 0)


@dataclass(frozen=True, slots=True)
class Import:
    model: str
    module: str
    revision: str | None = None


def bring_in(request: Import, progress: Callable[[str, float], None]) -> Total:
    importlib.import_module(request.module)
    return Total(0, 0)


COMMAND = (sys.executable, "-m", "tests.engine.toys")

TOYS = {
    kind.name: kind
    for kind in (
        Kind(
            "sum",
            "tests.engine.toys:Sum",
            "tests.engine.toys:Total",
            "tests.engine.toys:add",
            check="tests.engine.toys:in_order",
        ),
        Kind("shout", "tests.engine.toys:Shout", "tests.engine.toys:Shouted", "tests.engine.toys:shout", schema=3),
        Kind(
            "murmur",
            "tests.engine.toys:Murmur",
            "tests.engine.toys:Murmured",
            "tests.engine.toys:murmur",
            quick=True,
        ),
        Kind("hoard", "tests.engine.toys:Hoard", "tests.engine.toys:Total", "tests.engine.toys:hoard"),
        Kind("import", "tests.engine.toys:Import", "tests.engine.toys:Total", "tests.engine.toys:bring_in"),
    )
}

if __name__ == "__main__":
    KINDS.update(TOYS)
    main()
