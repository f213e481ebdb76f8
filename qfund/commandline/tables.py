"""Columns in a terminal."""

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 160  # characters of a line where there is no terminal


def aligned(rows: Iterable[Iterable[str]], left: int = 1) -> list[str]:
    """A line for each row, columns as wide as they need to be: the first ones to the left, the others to the right."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def folded(frame: "pd.DataFrame", keys: int = 1) -> str:
    """In as many parts below each other as the terminal's width asks for, each beginning with the first columns."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    first, rest = list(frame.columns[:keys]), list(frame.columns[keys:])
    parts = []
    while rest:
        many = len(rest)
        while many > 1 and len(_text(frame[first + rest[:many]]).partition("\n")[0]) > width:
            many -= 1
        parts.append(_text(frame[first + rest[:many]]))
        rest = rest[many:]
    return "\n\n".join(parts)


def _text(frame: "pd.DataFrame") -> str:
    return str(frame.to_string(index=False))
