"""The section *Will it fit?*: one bar a precision against a budget, computed anew at every move of a slider."""

from dataclasses import replace

import streamlit as st

from qfund.core.errors import QfundError
from qfund.drawing import axes
from qfund.features.memory import figures, tables, words
from qfund.features.memory.link import Asked
from qfund.features.memory.request import advice, fits, sizing
from qfund.features.memory.request.fits import Fits, Workload
from qfund.ui import columns
from qfund.ui.states import failed, literal


def under(found: Fits, workload: Workload) -> Fits:
    """The same model under another workload: arithmetic, no job."""
    rows = sizing.rows(found.shape, found.weights, workload)
    return replace(
        found,
        request=replace(found.request, workload=workload),
        rows=rows,
        choice=advice.choose(rows, workload, found.stored, found.weights),
        warnings=advice.warnings(found.shape, workload),
    )


def draw(asked: Asked, found: Fits) -> None:
    try:
        workload = asked.workload()
    except QfundError as error:
        failed(error)
        return
    found = under(found, workload)
    rows, choice = found.rows, found.choice
    say, icon = (st.success, ":material/check_circle:") if choice.precision else (st.error, ":material/block:")
    say(literal(choice.sentence), icon=icon)
    for warning in (*found.warnings, *words.heap(workload), *words.left_alone(found)):
        st.caption(f":material/warning: {literal(warning)}")
    if rows:
        st.plotly_chart(
            figures.fits(tables.fits(rows, found.weights), workload.budget, choice.precision),
            config=axes.CONFIG,
            key="fits",
            alt="What each precision takes, part by part, against the budget",
        )
        st.dataframe(
            tables.fits_text(rows, found.shape),
            hide_index=True,
            column_config={
                "Precision": st.column_config.TextColumn(pinned=True),
                "Longest context": st.column_config.NumberColumn(
                    format="localized",
                    help="Tokens of each sequence that the model was made for and that fit with this batch.",
                ),
                **{
                    f"{said[:1].upper()}{said[1:]} (B)": st.column_config.NumberColumn(format="localized")
                    for said in fits.PARTS.values()
                },
            },
            height=columns.height(len(rows), columns.ROWS),
            key="fits_table",
            alt="Total, headroom, longest context and parts of every precision",
        )
    if beyond := words.beyond_training(rows, found.shape):
        st.caption(f":material/warning: {beyond}")
    for name, why in found.refused.items():
        st.caption(f":material/block: {literal(name)}: {literal(why)}")
    st.caption(
        "Solid is exact: weights of the model built without them, and a cache computed from its config. Light and "
        "hatched is an estimate: activations while a prompt is read, and the runtime "
        f"({literal(fits.RUNTIMES[workload.runtime].meaning)}). A click on a name in the legend hides it. "
        f"{literal(' '.join(found.notes))}"
    )
