"""Cards for the rows of the tables of precisions and metrics."""

from html import escape

import streamlit as st

from qfund.drawing.palette import is_variant, precision_color
from qfund.drawing.phrases import label


def title(precision: str) -> None:
    """A precision's label beside the dot of its colour, a ring for a variant on another base. A file's name is
    anybody's, so it is escaped."""
    color = precision_color(precision)
    filled = f"background:{'transparent' if is_variant(precision) else color};border:.16em solid {color}"
    st.html(
        '<div style="display:flex;align-items:center;gap:.55em;font-weight:650;font-size:1.08em">'
        f'<span style="width:.8em;height:.8em;box-sizing:border-box;border-radius:50%;{filled}"></span>'
        f"{escape(label(precision))}</div>"
    )


def legend(colors: dict[str, str]) -> None:
    """Names beside squares of their colours. They may come from a checkpoint, so they are escaped."""
    squares = (
        f'<span style="white-space:nowrap;margin-right:1.1em"><span style="display:inline-block;width:.8em;height:.8em;'
        f'margin-right:.4em;background:{color}"></span>{escape(name)}</span> '
        for name, color in colors.items()
    )
    st.html(f'<div style="font-size:.85em">{"".join(squares)}</div>')
