"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

import math

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import number_text
from qfund.drawing.axes import blank_figure, marker, row_height
from qfund.drawing.palette import OTHER


def accuracy(frame: pd.DataFrame) -> go.Figure:
    """The share of exactly right captions, a row for each precision, with its interval; the first is the reference."""
    figure = blank_figure(row_height(len(frame)), showlegend=False)
    for row in frame.to_dict("records"):
        figure.add_scatter(
            x=[100 * row["exact"]],
            y=[row["label"]],
            error_x={
                "array": [100 * (row["high"] - row["exact"])],
                "arrayminus": [100 * (row["exact"] - row["low"])],
                "thickness": 2,
                "width": 6,
            },
            mode="markers",
            marker=marker(row["precision"], 14),
            hovertemplate=(
                f"<b>{row['label']}</b><br>{row['hover']}: {100 * row['exact']:.1f} %<br>"
                f"95 % interval {100 * row['low']:.1f} to {100 * row['high']:.1f} %<extra></extra>"
            ),
            cliponaxis=False,
        )
    figure.add_vline(x=100 * frame["exact"].iloc[0], line={"dash": "dot", "color": OTHER, "width": 1.5})
    lowest = 100 * frame["low"].min()
    figure.update_xaxes(title="exactly right (%)", range=[max(0.0, 5 * math.floor(lowest / 5)), 100.5], showgrid=True)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def divergence(frame: pd.DataFrame) -> go.Figure:
    """Mean KL divergence on a logarithmic axis, a row for each candidate; one that is 0 stands at the left edge."""
    lossy = frame[frame["kl"] > 0]
    figure = blank_figure(row_height(len(frame)), showlegend=False)
    if lossy.empty:
        figure.update_xaxes(title="KL divergence: 0 everywhere", range=[-0.1, 1], tickvals=[0])
        lowest = 0.0
    else:
        low, high = math.floor(math.log10(lossy["kl"].min())), math.ceil(math.log10(lossy["kl"].max()) + 0.01)
        lowest = 10.0**low
        figure.update_xaxes(
            title="KL divergence (nat), mean",
            type="log",
            range=[low - 0.05, high + 0.05],
            dtick=1,
            exponentformat="power",
            showgrid=True,
        )
    for row in frame.to_dict("records"):
        error = None
        if row["kl"] > 0 and pd.notna(row["se"]):  # a logarithm has no room for an error below 0
            below = min(row["se"], row["kl"] - lowest)
            error = {"array": [row["se"]], "arrayminus": [max(below, 0.0)], "thickness": 2, "width": 6}
        said = number_text(row["kl"]) + (f" (standard error {number_text(row['se'])})" if pd.notna(row["se"]) else "")
        figure.add_scatter(
            x=[row["kl"] or lowest],
            y=[row["label"]],
            error_x=error,
            mode="markers",
            marker=marker(row["precision"], 14),
            hovertemplate=f"<b>{row['label']}</b><br>{said} nat over {row['n']:,} tokens<extra></extra>",
            cliponaxis=False,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
