"""Weights and cache under one budget, of a report that compared caches."""

import streamlit as st

from qfund.drawing import axes
from qfund.features.compare import link
from qfund.features.compare.figures.together import frontier
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.together import pairs
from qfund.features.compare.view.answer.hardware import Room
from qfund.features.compare.words.together import sentence
from qfund.ui.states import literal


def draw(report: Report, room: Room) -> None:
    """Nothing where no cache was compared, or nothing is known of what they take."""
    if not report.spec.kv or room.workload is None or not (found := pairs(report, room.rows)):
        return
    st.markdown(f"**{literal(sentence(found, room.workload, link.shown_hardware().name))}**")
    st.plotly_chart(
        frontier(found),
        config=axes.CONFIG,
        key="together",
        alt="Bytes of weights and cache against KL divergence, a mark for each pair of precisions",
    )
