"""The section *Fidelity*: how far outputs are from the reference's, against memory and along the blocks."""

from typing import Any

import pandas as pd
import streamlit as st

from qfund.drawing import axes, phrases
from qfund.features.compare.figures import damage as damage_figures
from qfund.features.compare.figures import statistics as statistics_figures
from qfund.features.compare.request import verdict
from qfund.features.compare.tables import damage, metrics
from qfund.features.compare.words import report as report_words
from qfund.features.compare.words import statistics
from qfund.ui import columns
from qfund.ui.drawn import once
from qfund.ui.services import Answer

_CANDIDATE = st.column_config.TextColumn(width=210)


def draw(found: Answer) -> None:
    report = found.result
    assert report is not None
    frame = once(found, "fidelity text", metrics.metrics_text)
    if frame.empty:
        st.info(report_words.nothing_compared(report))
        return
    left, right = st.columns(2, gap="medium")
    with left:
        _memory_against_damage(found)
    with right:
        if any(result.drift for result in report.results):
            _drift(found)
        else:
            differences(found)
    many = len(report.results) > phrases.FEW
    names = [result.precision for result in report.results]
    st.dataframe(
        once(found, "fidelity by precision", metrics.metrics_by_precision) if many else frame,
        hide_index=True,
        column_config={
            "Metric": st.column_config.TextColumn(pinned=True, width=225),
            "Precision": st.column_config.TextColumn(pinned=True),
            "Noise floor": st.column_config.TextColumn(help=statistics.FLOOR),
            "Better": st.column_config.TextColumn(width=90),
            "Definition": st.column_config.TextColumn(width="large"),
            **(_explained(frame) if many else dict.fromkeys(map(phrases.label, names), _CANDIDATE)),
        },
        height=columns.height(len(report.results) + 1 if many else len(frame), columns.ROWS),
        key="fidelity_table",
        alt="Every metric of every candidate with its interval, the noise floor and its definition",
    )
    st.caption(statistics.how_sure(report))


def _explained(frame: pd.DataFrame) -> dict[str, Any]:
    """Each metric as a column with its definition."""
    rows = frame.to_dict("records")
    return {row["Metric"]: st.column_config.TextColumn(help=row["Definition"]) for row in rows}


def differences(found: Answer) -> None:
    """The distribution of |difference| over all outputs."""
    report = found.result
    assert report is not None
    frame = once(found, "differences", damage.differences)
    st.markdown("**How large the differences are**")
    if frame.empty:
        st.caption("Every output is exactly equal to the reference's.")
        return
    figure = once(
        found,
        "differences figure",
        lambda report: damage_figures.differences(frame, damage.compared_quantity(report)),
    )
    st.plotly_chart(
        figure,
        config=axes.CONFIG,
        key="differences",
        alt="Distribution of the absolute differences to the reference, one line for each candidate",
    )
    st.caption(report_words.equal_phrase(report))


def _memory_against_damage(found: Answer) -> None:
    report = found.result
    assert report is not None
    frame = once(found, "memory against damage", damage.memory_against_damage)
    st.markdown("**Memory against damage**")
    if frame.empty:
        st.caption("The candidates share no metric of damage.")
        return
    noise = verdict.noise_floor(report).get(str(frame["metric"].iloc[0]))
    band = statistics.noise_band(noise, bool(noise) and damage_figures.floor_is_near(frame, noise or 0.0))
    figure = once(
        found,
        "memory against damage figure",
        lambda report: damage_figures.memory_against_damage(frame, report.reference.footprint_bytes, noise),
    )
    st.plotly_chart(
        figure,
        config=axes.CONFIG,
        key="memory_against_damage",
        alt="Footprint of each candidate against its divergence from the reference",
    )
    st.caption(
        "Further left is smaller, further down is closer to the reference; the dotted line joins those that no other "
        f"beats in both. {band}{report_words.missing_phrase(report, frame)}"
    )


def _drift(found: Answer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("**Error along the blocks**", width="content")
        which = st.segmented_control(
            "Error by",
            list(metrics.DRIFTS),
            default=next(iter(metrics.DRIFTS)),
            required=True,
            key="drift_by",
            label_visibility="collapsed",
            width="content",
        )
    which = which if which in metrics.DRIFTS else next(iter(metrics.DRIFTS))
    st.plotly_chart(
        once(
            found,
            f"drift {which}",
            lambda report: statistics_figures.drift(metrics.drift(report, which), which),
        ),
        config=axes.CONFIG,
        key="drift",
        alt="Error of the hidden states after every block, one line for each candidate",
    )
    assert found.result is not None
    st.caption(statistics.drift(found.result, metrics.drift(found.result, which), which))
