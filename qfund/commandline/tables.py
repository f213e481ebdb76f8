"""Frames in a terminal."""

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 160  # characters of a line where there is no terminal


def print_table(frame: "pd.DataFrame", keys: int = 1) -> None:
    """In as many parts below each other as the terminal's width asks for, each beginning with the first columns."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    first, rest = list(frame.columns[:keys]), list(frame.columns[keys:])
    while rest:
        many = len(rest)
        while many > 1 and len(_text(frame[first + rest[:many]]).partition("\n")[0]) > width:
            many -= 1
        print(_text(frame[first + rest[:many]]))
        if rest := rest[many:]:
            print()


def _text(frame: "pd.DataFrame") -> str:
    return str(frame.to_string(index=False))
