"""The guide: what kinds of precision there are, what each metric means, and how to read the numbers."""

import streamlit as st

from qfund.core.metrics.table import METRICS
from qfund.drawing.phrases import BETTER
from qfund.precisions.precision import FAMILIES, STORED
from qfund.precisions.table import PRECISIONS
from qfund.ui.states import literal


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
