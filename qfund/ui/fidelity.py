"""The section *Fidelity*: how far each candidate's outputs are from the reference's."""

from typing import Any

import pandas as pd
import streamlit as st

from qfund import figures, tables, words
from qfund.ui import columns
from qfund.ui.drawn import once
from qfund.ui.services import Found


def draw(found: Found) -> None:
    report = found.report
    assert report is not None
    frame = once(found, "fidelity text", tables.fidelity_text)
    if frame.empty:
        st.info(words.nothing_compared(report))
        return
    many = len(report.results) > words.FEW
    st.dataframe(
        once(found, "fidelity by precision", tables.fidelity_by_precision) if many else frame,
        hide_index=True,
        column_config={
            "Metric": st.column_config.TextColumn(pinned=True, width=225),
            "Precision": st.column_config.TextColumn(pinned=True),
            "Definition": st.column_config.TextColumn(width="large"),
            "Better": st.column_config.TextColumn(width=90),
            **(_explained(frame) if many else {}),
        },
        height=columns.height(len(report.results) + 1, columns.ROWS) if many else "content",
        key="fidelity_table",
        alt="Every metric of every candidate with its standard error and definition",
    )
    of = f", the threshold for {len(report.results)} candidates," * (len(report.results) > 1)
    st.caption(
        f"± is one standard error, positions taken as independent. A perplexity within "
        f"{words.threshold(len(report.results)):.2f} of them{of} is not told from the reference's."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        _differences(found)
    with right:
        _memory_against_damage(found)


def _explained(frame: pd.DataFrame) -> dict[str, Any]:
    """Each metric as a column with its definition."""
    rows = frame.to_dict("records")
    return {row["Metric"]: st.column_config.TextColumn(help=row["Definition"]) for row in rows}


def _differences(found: Found) -> None:
    report = found.report
    assert report is not None
    frame = once(found, "differences", tables.differences)
    st.markdown("**How large the differences are**")
    if frame.empty:
        st.caption("Every output is exactly equal to the reference's.")
        return
    figure = once(
        found,
        "differences figure",
        lambda report: figures.differences(frame, tables.compared_quantity(report)),
    )
    st.plotly_chart(
        figure,
        config=figures.CONFIG,
        key="differences",
        alt="Distribution of the absolute differences to the reference, one line for each candidate",
    )
    st.caption(words.equal_phrase(report))


def _memory_against_damage(found: Found) -> None:
    report = found.report
    assert report is not None
    frame = once(found, "memory against damage", tables.memory_against_damage)
    st.markdown("**Memory against damage**")
    if frame.empty:
        st.caption("The candidates share no metric of damage.")
        return
    figure = once(
        found,
        "memory against damage figure",
        lambda report: figures.memory_against_damage(frame, report.reference.footprint_bytes),
    )
    st.plotly_chart(
        figure,
        config=figures.CONFIG,
        key="memory_against_damage",
        alt="Footprint of each candidate against its divergence from the reference",
    )
    st.caption(
        f"Further left is smaller, further down is closer to the reference. {words.missing_phrase(report, frame)}"
    )
