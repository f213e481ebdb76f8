"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import bytes_text, number_text
from qfund.drawing.axes import blank_figure, byte_unit
from qfund.drawing.palette import precision_color

#: Formats of a cache that no precision is called like → the nearest that is.
_LIKE = {"fp8": "fp8_e4m3", "int4_kivi": "int4_asym"}


def _color(cache: str) -> str:
    """That of weights in the same format; of keys and values apart, of the keys'."""
    name = cache.partition("/")[0].lower()
    return precision_color(_LIKE.get(name, name))


def frontier(frame: pd.DataFrame) -> go.Figure:
    """Bytes of a sequence against KL on a logarithmic axis; caches that change nothing are left out."""
    lossy = frame[frame["kl"] > 0]
    figure = blank_figure(320, showlegend=False)
    divisor, unit = byte_unit(int(frame["bytes"].max())) if len(frame) else (1.0, "B")
    for place, row in enumerate(lossy.to_dict("records")):
        figure.add_scatter(
            x=[row["bytes"] / divisor],
            y=[row["kl"]],
            mode="markers+text",
            text=[row["title"]],
            textposition="bottom center" if place % 2 else "top center",
            marker={"size": 12, "color": _color(str(row["title"]))},
            hovertemplate=(
                f"<b>{row['title']}</b><br>{bytes_text(row['bytes'])}, KL {number_text(row['kl'])} nat<br>"
                f"{100 * row['top1']:.2f} % of next tokens stay<extra></extra>"
            ),
            cliponaxis=False,
        )
    figure.update_xaxes(title=f"KV cache of a sequence ({unit})", rangemode="tozero", showgrid=True)
    figure.update_yaxes(title="KL divergence (nat)", type="log", dtick=1, exponentformat="power", showgrid=True)
    return figure


def depth(frame: pd.DataFrame) -> go.Figure:
    """KL by depth of context, a line for each cache, on a logarithmic axis."""
    figure = blank_figure(340)
    for title, part in frame.groupby("title", sort=False):
        if not (part["kl"] > 0).any():
            continue
        figure.add_scatter(
            x=(part["start"] + part["end"]) / 2,
            y=part["kl"].where(part["kl"] > 0),
            name=str(title),
            mode="lines+markers",
            line={"color": _color(str(title))},
            customdata=part[["start", "end", "count"]],
            hovertemplate=(
                f"<b>{title}</b><br>tokens %{{customdata[0]}} to %{{customdata[1]}}: %{{y:.2e}} nat over "
                "%{customdata[2]} positions<extra></extra>"
            ),
        )
    figure.update_xaxes(title="tokens read before", rangemode="tozero", showgrid=True)
    figure.update_yaxes(title="KL divergence (nat)", type="log", dtick=1, exponentformat="power", showgrid=True)
    return figure
