"""The section *Modules*: where the bytes of a precision are, as a treemap in the colours of dtypes."""

import streamlit as st

from qfund import figures, memory_tables, tables
from qfund.plan import Plan
from qfund.ui import cards, columns
from qfund.ui.memory_link import Asked
from qfund.ui.memory_sizes import one
from qfund.ui.services import Answer
from qfund.ui.states import literal
from qfund.units import bytes_text


def draw(asked: Asked, exact: Answer) -> None:
    plan: Plan = exact.result
    one(asked.precisions, "modules_precision", lambda name: _treemap(plan, name))
    frame = memory_tables.entries(plan, asked.precisions)
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "Precision": st.column_config.TextColumn(pinned=True),
            "Of FP32": st.column_config.NumberColumn(format="%.1f %%"),
            tables.QUANTISED_BITS: st.column_config.NumberColumn(
                format="%.4g", help="Of the weights that are stored as codes, scales included."
            ),
            "Bits per parameter": st.column_config.NumberColumn(format="%.4g", help="Of the whole model."),
            **{name: st.column_config.NumberColumn(format="localized") for name in frame if name.endswith("(B)")},
        },
        height=columns.height(len(frame), columns.ROWS),
        key="plan_table",
        alt="Predicted bytes of every precision, part by part",
    )
    for left in plan.not_planned:
        if left.precision in asked.precisions:
            st.caption(f":material/block: {literal(left.precision)}: {literal(left.why)}")


def _treemap(plan: Plan, precision: str) -> None:
    if not memory_tables.chosen(plan, (precision,)):
        st.info("This model cannot have that precision.")
        return
    st.plotly_chart(
        figures.modules(memory_tables.modules(plan, precision)),
        config=figures.CONFIG,
        key="planned_modules",
        alt="Treemap of predicted bytes by module path, coloured by dtype",
    )
    held = memory_tables.dtypes(plan, precision)
    cards.legend({f"{name} {bytes_text(count)}": figures.dtype_colour(name) for name, count in held.items()})
