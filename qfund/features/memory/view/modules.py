"""The section *Modules*: where the bytes of a precision are, as a treemap in the colours of dtypes."""

import streamlit as st

from qfund.core.units import bytes_text
from qfund.drawing import axes, columns, palette
from qfund.features.compare.figures import footprints
from qfund.features.memory import tables
from qfund.features.memory.link import Asked
from qfund.features.memory.request.plan import Plan
from qfund.features.memory.view.sizes import one
from qfund.ui import cards
from qfund.ui import columns as ui_columns
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(asked: Asked, exact: Answer) -> None:
    plan: Plan = exact.result
    one(asked.precisions, "modules_precision", lambda name: _treemap(plan, name))
    frame = tables.entries(plan, asked.precisions)
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "Precision": st.column_config.TextColumn(pinned=True),
            "Of FP32": st.column_config.NumberColumn(format="%.1f %%"),
            columns.QUANTIZED_BITS: st.column_config.NumberColumn(
                format="%.4g", help="Of the weights that are stored as codes, scales included."
            ),
            "Bits per parameter": st.column_config.NumberColumn(format="%.4g", help="Of the whole model."),
            **{name: st.column_config.NumberColumn(format="localized") for name in frame if name.endswith("(B)")},
        },
        height=ui_columns.height(len(frame), ui_columns.ROWS),
        key="plan_table",
        alt="Predicted bytes of every precision, part by part",
    )
    for left in plan.not_planned:
        if left.precision in asked.precisions:
            st.caption(f":material/block: {literal(left.precision)}: {literal(left.why)}")


def _treemap(plan: Plan, precision: str) -> None:
    if not tables.chosen(plan, (precision,)):
        st.info("This model cannot have that precision.")
        return
    st.plotly_chart(
        footprints.modules(tables.modules(plan, precision)),
        config=axes.CONFIG,
        key="planned_modules",
        alt="Treemap of predicted bytes by module path, coloured by dtype",
    )
    held = tables.dtypes(plan, precision)
    cards.legend({f"{name} {bytes_text(count)}": palette.dtype_color(name) for name, count in held.items()})
