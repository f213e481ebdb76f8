"""The section *Libraries*: the candidates as libraries really store and run them, beside qfund's own."""

import streamlit as st

from qfund.drawing import axes
from qfund.features.compare.figures import libraries as figures
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import libraries as tables
from qfund.features.compare.words import libraries as words
from qfund.ui.drawn import once
from qfund.ui.services import Answer
from qfund.ui.states import literal


def draw(found: Answer) -> None:
    report: Report = found.result
    frame = once(found, "libraries", tables.libraries)
    if frame["ratio"].notna().any():
        st.markdown("**Time of a forward beside the reference's**")
        st.plotly_chart(
            once(found, "latency", lambda whole: figures.latency(frame)),
            config=axes.CONFIG,
            key="latency",
            alt="Time of a forward of every candidate as a ratio to the reference's, by library",
        )
        st.caption(
            "Time of a forward ÷ the reference's, measured in turns on this machine: left of the line is faster. Bars "
            "in grey are qfund's own quantised models, made to be exact and not fast. Other machines give other times."
        )
    else:
        st.info("No time could be measured here.")
    st.dataframe(
        # Sentences stand below, where they can be read.
        once(found, "libraries shown", tables.libraries_text).drop(columns=["Note", "Problem"], errors="ignore"),
        hide_index=True,
        column_config={
            "Precision": st.column_config.TextColumn(pinned=True),
            "Largest difference": st.column_config.TextColumn(help="Of outputs, to those of qfund's own model."),
        },
        key="libraries_table",
        alt="Bytes, time and differences of every candidate in every library",
    )
    left = once(found, "left by libraries", tables.left_by_libraries)
    if not left.empty:
        with st.expander(f"What libraries left as it was: {len(left):,} modules, and why", icon=":material/rule:"):
            st.dataframe(
                left, hide_index=True, alt="Modules that qfund converts and a library did not, with the reason"
            )
    for note in words.library_notes(report):
        st.caption(f":material/info: {literal(note)}")
    for problem in words.library_problems(report):
        st.caption(f":material/warning: {literal(problem)}")
