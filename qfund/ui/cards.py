"""Cards for the rows of the tables of precisions and metrics."""

import streamlit as st

from qfund.figures import precision_colour
from qfund.metrics import METRICS
from qfund.precisions import PRECISIONS
from qfund.ui.states import literal
from qfund.words import BETTER


def title(precision: str) -> None:
    """A precision's label beside the dot of its colour. Only this project's own table goes into this HTML."""
    st.html(
        '<div style="display:flex;align-items:center;gap:.55em;font-weight:650;font-size:1.08em">'
        f'<span style="width:.8em;height:.8em;border-radius:50%;background:{precision_colour(precision)}"></span>'
        f"{PRECISIONS[precision].label if precision in PRECISIONS else ''}</div>"
    )


def precisions() -> None:
    with st.grid(4, min_column_width=260):
        for row in PRECISIONS.values():
            with st.container(border=True, height="stretch", gap="small"):
                title(row.name)
                st.markdown(literal(row.meaning))
                st.caption(
                    f"{row.bits} bits · {literal(row.arithmetic)} · `{row.name}` on the command line and in links"
                )


def metrics() -> None:
    with st.grid(3, min_column_width=300):
        for row in METRICS.values():
            with st.container(border=True, height="stretch", gap="small"):
                st.markdown(f"**{literal(row.label)}**")
                st.markdown(literal(row.definition))
                unit = f"in {row.unit}" if row.unit not in ("", "×", "share") else {"share": "in %"}.get(row.unit, "")
                facts = [f"{BETTER[row.better]} is better", unit, f"`{row.name}`", f"after {literal(row.source)}"]
                st.caption(" · ".join(fact for fact in facts if fact))
