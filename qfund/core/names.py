"""Look a name up in a table, and say what there is when it is not there."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from qfund.core.errors import UnknownName

Row = TypeVar("Row")

_SHOWN = 10
_LISTED = ("model", "precision", "metric")  # kinds that `qfund ls` knows
_GGUF = re.compile(r"i?q\d_\w+$")


def look_up(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """``table[name]``.

    Raises:
        UnknownName: "Unknown precision 'bf61'. Did you mean: bf16? Available: …"
    """
    if name not in table:
        raise unknown(table, name, kind)
    return table[name]


def unknown(names: Iterable[str], name: str, kind: str, more: str = "") -> UnknownName:
    """The error that says which names there are, and the closest one: of many that ``qfund ls`` lists only those
    nearby. ``more`` is added to the remedy."""
    available, typed = list(names), name.lower()
    said = f"Unknown {kind} {name!r}."
    if kind == "precision" and _GGUF.match(typed) and typed not in available:
        said += f" Kinds such as {typed} are llama.cpp's, of GGUF files; qfund makes those that it lists."
    begun = [each for each in available if len(typed) > 1 and each.startswith(typed)]
    close = difflib.get_close_matches(typed, available, n=_SHOWN, cutoff=0.5)
    meant = f"Did you mean: {(begun + close)[0]}? " if begun or close else ""
    if len(available) <= 2 * _SHOWN or kind not in _LISTED:
        return UnknownName(said, f"{meant}Available: {', '.join(available)}. {more}".strip())
    nearest = list(dict.fromkeys(begun + close + difflib.get_close_matches(typed, available, n=_SHOWN, cutoff=0.0)))
    listed = f"The closest: {', '.join(nearest[:_SHOWN])}. `qfund ls {kind}s` lists all."
    return UnknownName(said, f"{meant}{listed} {more}".strip())
