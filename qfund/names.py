"""Look a name up in a table, and say what there is when it is not there."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from qfund.errors import UnknownName

Row = TypeVar("Row")


def look_up(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """``table[name]``.

    Raises:
        UnknownName: "Unknown precision 'bf61'. Did you mean: bf16? Available: …"
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name.lower(), table, n=1, cutoff=0.5)
    meant = f"Did you mean: {close[0]}? " if close else ""
    raise UnknownName(f"Unknown {kind} {name!r}.", f"{meant}Available: {', '.join(table)}.")
