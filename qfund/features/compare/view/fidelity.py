"""The section *Fidelity*: how far outputs are from the reference's, in numbers and along the blocks."""

from typing import Any

import pandas as pd
import streamlit as st

from qfund.drawing import phrases
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables.metrics import metrics_by_precision, metrics_text
from qfund.features.compare.view.damage import differences
from qfund.features.compare.view.statistics import drift
from qfund.features.compare.words.report import nothing_compared
from qfund.features.compare.words.statistics import FLOOR, how_sure
from qfund.ui import columns
from qfund.ui.drawn import once
from qfund.ui.services import Answer

_CANDIDATE = st.column_config.TextColumn(width=210)


def draw(found: Answer) -> None:
    every = st.toggle("All metrics", key="all_metrics")
    if not once(found, f"fidelity {every}", lambda report: _table(report, every)):
        return
    charts = st.expander(
        "How large the differences are, and how they grow from block to block",
        icon=":material/show_chart:",
        key="charts",
        on_change="rerun",
    )
    if charts.open:
        with charts:
            _charts(found)


def _table(report: Report, every: bool) -> bool:
    """All metrics that there are; whether there are any."""
    frame = metrics_text(report, every)
    if frame.empty:
        st.info(nothing_compared(report))
        return False
    many = len(report.results) > phrases.FEW
    names = [result.precision for result in report.results]
    st.dataframe(
        metrics_by_precision(report, every) if many else frame,
        hide_index=True,
        column_config={
            "Metric": st.column_config.TextColumn(pinned=True, width=225),
            "Precision": st.column_config.TextColumn(pinned=True),
            "Noise floor": st.column_config.TextColumn(help=FLOOR),
            "Better": st.column_config.TextColumn(width=90),
            "Definition": st.column_config.TextColumn(width="large"),
            **(_explained(frame) if many else dict.fromkeys(map(phrases.label, names), _CANDIDATE)),
        },
        height=columns.height(len(report.results) + 1 if many else len(frame), columns.ROWS),
        key="fidelity_table",
        alt="Every metric of every candidate with its interval, the noise floor and its definition",
    )
    st.caption(how_sure(report))
    return True


def _charts(found: Answer) -> None:
    report: Report = found.result
    left, right = st.columns(2, gap="medium")
    with left:
        differences(found)
    if any(result.drift for result in report.results):
        with right:
            drift(found)


def _explained(frame: pd.DataFrame) -> dict[str, Any]:
    """Each metric as a column with its definition."""
    rows = frame.to_dict("records")
    return {row["Metric"]: st.column_config.TextColumn(help=row["Definition"]) for row in rows}
