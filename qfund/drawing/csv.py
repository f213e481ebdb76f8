"""Frames → CSV that a spreadsheet opens as what it says: no cell of text is taken for a formula."""

import pandas as pd

#: What spreadsheets begin a formula with.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(frame: pd.DataFrame) -> bytes:
    """UTF-8 without an index; a text that begins as a formula does gets an apostrophe before it."""
    texts = {
        name: pd.Series([_text(cell) for cell in column], index=frame.index, dtype=object)
        for name, column in frame.items()
        if any(isinstance(cell, str) for cell in column)
    }
    quoted = frame.assign(**{str(name): column for name, column in texts.items()})
    return str(quoted.rename(columns=_text).to_csv(index=False)).encode()


def _text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
