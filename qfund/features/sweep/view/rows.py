"""Rows as a table of the page: numbers as they are written elsewhere, and still sorted as numbers."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from qfund.drawing.frames import frame
from qfund.features.sweep.tables import ABSENT, FORMATS, Row
from qfund.ui import columns


def table(rows: Sequence[Row], key: str, most: int = columns.TALL, **more: Any) -> Any:
    """What ``st.dataframe`` gives, which ``more`` is for."""
    shown = frame(rows)
    formats = {name: said for name, said in FORMATS.items() if name in shown}
    styled = shown.style.format(formats, na_rep=ABSENT)
    tall = columns.height(len(rows), most)
    return st.dataframe(styled, hide_index=True, placeholder=ABSENT, height=tall, key=key, **more)
