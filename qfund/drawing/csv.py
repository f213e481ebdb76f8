"""Frames → CSV that a spreadsheet opens as what it says: no cell of text is taken for a formula."""

import pandas as pd

#: What spreadsheets begin a formula with.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(frame: pd.DataFrame) -> bytes:
    """UTF-8 without an index; a text that begins as a formula does gets an apostrophe before it."""
    return str(frame.map(_text).rename(columns=_text).to_csv(index=False)).encode()


def _text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
