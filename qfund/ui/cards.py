"""Cards for the rows of the tables of precisions and metrics."""

from html import escape

import streamlit as st

from qfund.figures import is_variant, precision_colour
from qfund.metrics import METRICS
from qfund.precisions import FAMILIES, PRECISIONS, STORED
from qfund.ui.states import literal
from qfund.words import BETTER


def title(precision: str) -> None:
    """A precision's label beside the dot of its colour, a ring for a variant on another base. Only this project's own
    table goes into this HTML."""
    colour = precision_colour(precision)
    filled = f"background:{'transparent' if is_variant(precision) else colour};border:.16em solid {colour}"
    st.html(
        '<div style="display:flex;align-items:center;gap:.55em;font-weight:650;font-size:1.08em">'
        f'<span style="width:.8em;height:.8em;box-sizing:border-box;border-radius:50%;{filled}"></span>'
        f"{PRECISIONS[precision].label if precision in PRECISIONS else ''}</div>"
    )


def legend(colours: dict[str, str]) -> None:
    """Names beside squares of their colours. They may come from a checkpoint, so they are escaped."""
    squares = (
        f'<span style="white-space:nowrap;margin-right:1.1em"><span style="display:inline-block;width:.8em;height:.8em;'
        f'margin-right:.4em;background:{colour}"></span>{escape(name)}</span> '
        for name, colour in colours.items()
    )
    st.html(f'<div style="font-size:.85em">{"".join(squares)}</div>')


def families() -> None:
    """The families of precisions, one line each, with the names of their rows."""
    for family, meaning in FAMILIES.items():
        rows = [row.label for row in PRECISIONS.values() if row.family == family and row.variant_of is None]
        if family != STORED:
            st.markdown(f"**{family.capitalize()}** · {literal(meaning)}  \n:small[:gray[{literal(', '.join(rows))}]]")


def metrics() -> None:
    with st.grid(3, min_column_width=300):
        for row in METRICS.values():
            with st.container(border=True, height="stretch", gap="small"):
                st.markdown(f"**{literal(row.label)}**")
                st.markdown(literal(row.definition))
                unit = f"in {row.unit}" if row.unit not in ("", "×", "share") else {"share": "in %"}.get(row.unit, "")
                facts = [f"{BETTER[row.better]} is better", unit, f"`{row.name}`", f"after {literal(row.source)}"]
                st.caption(" · ".join(fact for fact in facts if fact))
