"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import number_text
from qfund.drawing.axes import blank_figure, marker, row_height
from qfund.drawing.palette import OTHER


def ratios(frame: pd.DataFrame) -> go.Figure:
    """Speed of writing beside the reference's at one point, a row for each run, with its interval; a line at 1."""
    figure = blank_figure(row_height(len(frame)), showlegend=False)
    for row in frame.to_dict("records"):
        figure.add_scatter(
            x=[row["decode_ratio"]],
            y=[row["title"]],
            error_x={
                "array": [row["ratio_high"] - row["decode_ratio"]],
                "arrayminus": [row["decode_ratio"] - row["ratio_low"]],
                "thickness": 2,
                "width": 6,
            },
            mode="markers",
            marker=marker(row["precision"], 14),
            hovertemplate=(
                f"<b>{row['title']}</b><br>{number_text(row['decode'])} tokens/s, {row['decode_ratio']:.2f} times the "
                f"reference ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})<br>"
                f"{100 * row['decode_share']:.0f} % of the memory's bandwidth<extra></extra>"
            ),
            cliponaxis=False,
        )
    figure.add_vline(x=1, line={"dash": "dot", "color": OTHER, "width": 1.5})
    figure.update_xaxes(title="tokens written a second, the reference is 1", rangemode="tozero", showgrid=True)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
