"""Query parameters, a row each: how a choice of a page is written into a link, and how it is read from one."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from qfund.core.units import parse_count

Query = dict[str, list[str]]

Asked = TypeVar("Asked")
#: What a parameter means, or None where that is nothing, and a sentence for each thing that had to be ignored.
Meant = tuple[Any, list[str]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter.

    Attributes:
        field: of the page's choices.
        write: makes the values that stand in a link, of the field.
        read: its inverse, given the parameter's name too.
    """

    field: str
    write: Callable[[Any], list[str]]
    read: Callable[[str, list[str]], Meant]


Parameters = Mapping[str, Parameter]


def text(field: str, known: Collection[str] = (), longest: int = 1024, strip: bool = False) -> Parameter:
    """One value: a name of ``known``, or anything where that is empty; cut at ``longest`` characters."""

    def read(short: str, values: list[str]) -> Meant:
        value = last(values)[:longest]
        if value and known and value not in known:
            return None, [f"Ignored {short}={value[:40]!r}. Available: {', '.join(known)}."]
        return (value.strip() if strip else value) or None, []

    return Parameter(field, lambda value: [str(value or "")], read)


def count(field: str, least: int, most: int) -> Parameter:
    """A whole number; ``8k`` is 8 · 1024."""

    def read(short: str, values: list[str]) -> Meant:
        value = last(values)
        if (found := whole_number(str(parse_count(value) or value), least, most)) is None:
            return None, [f"Ignored {short}={value[:40]!r}: no number from {least} to {most:,}."]
        return found, []

    return Parameter(field, lambda value: [str(value)], read)


def names(field: str, known: Collection[str]) -> Parameter:
    """Some of ``known``, in its order; none at all asks for nothing."""

    def read(short: str, values: list[str]) -> Meant:
        ignored = [name for name in values if name not in known]
        said = [f"Ignored unknown {short}={', '.join(repr(name[:40]) for name in ignored)}."] if ignored else []
        return tuple(name for name in known if name in values) or None, said

    return Parameter(field, list, read)


def to_query(asked: object, parameters: Parameters) -> Query:
    """The query parameters of every choice."""
    query = {short: row.write(getattr(asked, row.field)) for short, row in parameters.items()}
    # Neither no value nor an empty one would come back.
    return {short: values for short, values in query.items() if values and values != [""]}


def from_query(usual: Asked, parameters: Parameters, query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, which is ``usual`` where it says nothing, and a sentence for each thing in it that had to
    be ignored."""
    asked, problems = usual, []
    for short, values in query.items():
        if short not in parameters:
            problems.append(f"Ignored unknown link parameter: {short[:40]}.")
            continue
        value, ignored = parameters[short].read(short, values)
        problems += ignored
        if value is not None:
            asked = replace(asked, **{parameters[short].field: value})  # type: ignore[type-var]
    return asked, problems


def last(values: list[str]) -> str:
    """Of a parameter that may stand once."""
    return values[-1] if values else ""


def whole_number(value: str, least: int, most: int) -> int | None:
    """The number that a link's parameter names, or None if it is none from ``least`` to ``most``."""
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12):
        return None
    return found if least <= (found := int(value)) <= most else None


def number(value: str, least: float, most: float) -> float | None:
    """As ``whole_number``, with digits after the point."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if least <= found <= most else None
