"""Look a name up in a table, and say what there is when it is not there."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from qfund.errors import UnknownName

Row = TypeVar("Row")


def look_up(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """``table[name]``.

    Raises:
        UnknownName: "Unknown precision 'bf61'. Did you mean: bf16? Available: …"
    """
    if name not in table:
        raise unknown(table, name, kind)
    return table[name]


def unknown(names: Iterable[str], name: str, kind: str, more: str = "") -> UnknownName:
    """The error that says which names there are, and the closest one; ``more`` is added to the remedy."""
    available = list(names)
    close = difflib.get_close_matches(name.lower(), available, n=1, cutoff=0.5)
    meant = f"Did you mean: {close[0]}? " if close else ""
    return UnknownName(f"Unknown {kind} {name!r}.", f"{meant}Available: {', '.join(available)}. {more}".strip())
