"""The three pictures that the app exists for, side by side: footprint, dtypes, and how far the logits move."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from qfund.drawing import axes, phrases
from qfund.drawing.numbers import value_text
from qfund.features.compare.figures import damage, footprints
from qfund.features.compare.request.ranking import Ranked
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import damage as damage_tables
from qfund.features.compare.tables import footprints as tables
from qfund.features.compare.view.interval_strips import name
from qfund.ui.drawn import once
from qfund.ui.services import Answer

_LEAST, _ROW, _LINE = 236, 36, 23  # pixels of a picture's height; of a bar; of a line of the table beside it


def draw(found: Answer, rows: Sequence[Ranked]) -> None:
    """Of many candidates the first of the ranking."""
    few = tuple(row.result.precision for row in rows[: phrases.FEW])
    report: Report = found.result
    shown = replace(report, results=tuple(result for result in report.results if result.precision in few))
    high, names = max(_LEAST, 80 + _ROW * (len(few) + 1)), " ".join(sorted(few))
    with st.container(key="pictures"):
        left, middle, right = st.columns(3, gap="medium")
        with left:
            st.markdown("**Memory footprint**")
            st.plotly_chart(
                once(found, f"footprints {names}", lambda _: _memory(shown, high)),
                config=axes.CONFIG,
                key="picture_memory",
                alt="Footprint of each precision, with the prediction from shapes as a mark",
            )
        with middle:
            st.markdown("**Parameter dtypes**")
            st.plotly_chart(
                once(found, f"dtypes {names}", lambda _: _dtypes(shown, high)),
                config=axes.CONFIG,
                key="picture_dtypes",
                alt="Share of each dtype in the stored bytes of each precision",
            )
        with right:
            _differences(found, shown, names, high)
    if len(few) < len(rows):
        st.caption(f"Pictures of the first {len(few)} of {len(rows)} candidates of the table.")


def _memory(shown: Report, high: int) -> go.Figure:
    """Without a legend, and with room for numbers beside the bars."""
    figure = footprints.footprints(tables.parts(shown), tables.footprints(shown))
    return figure.update_layout(height=high, showlegend=False).update_xaxes(
        range=[0, 1.25 * figure.layout.xaxis.range[1]]
    )


def _dtypes(shown: Report, high: int) -> go.Figure:
    return footprints.dtype_shares(tables.dtypes(shown)).update_layout(height=high)


def _differences(found: Answer, shown: Report, names: str, high: int) -> None:
    quantity = damage_tables.compared_quantity(shown)
    st.markdown(f"**Distribution of {quantity}s**")
    frame = once(found, f"differences {names}", lambda _: damage_tables.differences(shown))
    if frame.empty:
        st.caption("Every output is exactly equal to the reference's.")
        return
    st.html(_means(shown))
    low = max(_LEAST // 2, high - _LINE * (len(shown.results) + 1))
    st.plotly_chart(
        once(found, f"differences figure {names}", lambda _: _distribution(frame, quantity, low)),
        config=axes.CONFIG,
        key="picture_differences",
        alt="Distribution of the absolute differences to the reference, one line for each candidate",
    )


def _distribution(frame: pd.DataFrame, quantity: str, high: int) -> go.Figure:
    """Without a legend: that is the table above it."""
    figure = damage.differences(frame, quantity).update_layout(height=high, showlegend=False)
    return figure.update_yaxes(title="% of outputs")


def _means(shown: Report) -> str:
    """The lesson's two numbers of each candidate: the mean and the largest difference."""
    hidden = any("mean_abs_hidden_diff" in result.fidelity for result in shown.results)
    metrics = [f"{which}_abs_{'hidden' if hidden else 'logit'}_diff" for which in ("mean", "max")]
    rows = "".join(
        f"<tr><th scope=row>{name(result.precision)}</th>"
        + "".join(
            f"<td>{value_text(result.fidelity[metric].value, '') if metric in result.fidelity else '–'}</td>"
            for metric in metrics
        )
        + "</tr>"
        for result in shown.results
    )
    return (
        '<table class="qf-means"><thead><tr><td></td><th scope=col>mean</th><th scope=col>largest</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
