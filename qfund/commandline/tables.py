"""Columns in a terminal."""

import shutil
from collections.abc import Iterable, Mapping, Sequence

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


def folded(rows: Sequence[Mapping[str, object]], keys: int = 1) -> str:
    """Rows below their columns' titles, all with the same ones, in as many parts below each other as the terminal's
    width asks for, each beginning with the first columns."""
    if not rows:
        return ""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    columns = list(rows[0])
    first, rest = columns[:keys], columns[keys:]
    parts = []
    while rest:
        many = len(rest)
        while many > 1 and len(max(_lines(rows, first + rest[:many]), key=len)) > width:
            many -= 1
        parts.append("\n".join(_lines(rows, first + rest[:many])))
        rest = rest[many:]
    return "\n\n".join(parts)


def _lines(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[str]:
    return aligned([columns, *([str(row[column]) for column in columns] for row in rows)], left=0)
