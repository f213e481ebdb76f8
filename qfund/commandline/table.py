"""What a sub-command is: rows that its parser, its ``--help`` and ``docs/commands.md`` are made from."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """An option, or what is given by its place.

    Attributes:
        name: ``"--max-tokens"``, read as ``max_tokens``; without dashes, the place's.
        help: what it does, its default in brackets.
        metavar: what stands for the value.
        type: text → value; an ``argparse.ArgumentTypeError`` says what is wrong with it.
        many: takes one or more values, ``--precision bf16 int8``.
        again: can be given several times, a value each.
        flag: takes no value.
        choices: the only values.
    """

    name: str
    help: str
    metavar: str | None = None
    type: Callable[[str], Any] = str
    default: Any = None
    many: bool = False
    again: bool = False
    flag: bool = False
    choices: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """``--precision P …``."""
        value = self.metavar or "|".join(self.choices)
        return " ".join(filter(None, (self.name, value, "…" * self.many)))


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Options of which at most one is given; exactly one where it is ``required``."""

    options: tuple[Option, ...]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command; its name and what it does in one line are in the row of its feature.

    Attributes:
        examples: whole command lines.
        notes: sentences below its options.
    """

    run: Callable[[Namespace], None]
    rows: tuple[Option | Exclusive, ...]
    examples: tuple[str, ...]
    notes: str = ""

    @property
    def options(self) -> Iterator[Option]:
        for row in self.rows:
            yield from row.options if isinstance(row, Exclusive) else (row,)
