"""How far outputs move: against memory, and how the differences are distributed."""

import pandas as pd
import streamlit as st

from qfund.drawing import axes, phrases
from qfund.features.compare.document import pictures
from qfund.features.compare.figures import damage as figures
from qfund.features.compare.request.noise_floor import noise_floor
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import damage as tables
from qfund.features.compare.view.answer.pictures import Drawn, draw_one
from qfund.features.compare.words import damage as words
from qfund.ui.drawn import once
from qfund.ui.services import Answer

_WIDE = 460  # pixels of a drawing that is read on a phone too


def memory_against_damage(found: Answer, best: str | None = None) -> None:
    """The footprint of each candidate against its loss of fidelity; ``best`` is lit."""
    frame = once(found, "memory against damage", tables.memory_against_damage)
    st.markdown("**Memory against damage**")
    if frame.empty:
        st.caption("The candidates share no metric of damage.")
        return
    drawn = None
    if len(frame) <= phrases.FEW:
        drawn = once(
            found,
            f"memory against damage drawn {best}",
            lambda report: Drawn.of(pictures.damage(report, best, _WIDE)),
        )
    if drawn is not None:
        draw_one(drawn)
    once(found, f"memory against damage {best}", lambda report: _against(report, frame, best, drawn is not None))


def _against(report: Report, frame: pd.DataFrame, best: str | None, drawn: bool) -> None:
    """The chart, where it is not drawn already, and what it means."""
    noise = noise_floor(report).get(str(frame["metric"].iloc[0]))
    band = words.noise_band(noise, bool(noise) and figures.floor_is_near(frame, noise or 0.0))
    if not drawn:  # names that there is no room for are read under a mouse
        st.plotly_chart(
            figures.memory_against_damage(frame, report.reference.memory, noise, best),
            config=axes.CONFIG,
            key="memory_against_damage",
            alt="Footprint of each candidate against its divergence from the reference",
        )
    st.caption(
        "Further left is smaller, further down is closer to the reference; the dotted line joins those that no other "
        f"beats in both. {band}{words.missing_phrase(report, frame)}"
    )


def differences(found: Answer) -> None:
    """The distribution of |difference| over all outputs."""
    report: Report = found.result
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
        config=axes.CONFIG,
        key="differences",
        alt="Distribution of the absolute differences to the reference, one line for each candidate",
    )
    st.caption(words.equal_phrase(report))
