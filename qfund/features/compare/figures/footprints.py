"""Footprints, dtypes and modules."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import bytes_text
from qfund.drawing.axes import FEW, blank_figure, byte_unit, literal, row_height
from qfund.drawing.palette import OTHER, QUIET, dtype_color, ink, precision_color

#: A treemap with more boxes shows its first levels; a click opens the next.
MANY_BOXES = 300

_PATTERNS = {"weights": "", "scales": "/", "buffers": "x"}


def footprints(parts: pd.DataFrame, totals: pd.DataFrame) -> go.Figure:
    """Stored bytes of each precision, stacked by part, with the prediction from shapes as a mark beside them."""
    divisor, unit = byte_unit(int(totals[["footprint", "predicted"]].max().max()))
    figure = blank_figure(row_height(len(totals)), barmode="stack", bargap=0.35)
    for part, rows in parts.groupby("part", sort=False):
        if not rows["bytes"].sum():
            continue
        figure.add_bar(
            y=rows["label"],
            x=rows["bytes"] / divisor,
            orientation="h",
            name=str(part),
            marker={
                "color": [precision_color(name) for name in rows["precision"]],
                "pattern": _pattern(str(part)),
                "line": {"width": 0},
            },
            showlegend=False,
            customdata=[bytes_text(count) for count in rows["bytes"]],
            hovertemplate=f"<b>%{{y}}</b><br>{part}: %{{customdata}}<extra></extra>",
        )
        if _PATTERNS.get(str(part)) != "":  # an empty bar that explains the pattern
            figure.add_bar(
                y=[totals["label"].iloc[0]],
                x=[0],
                orientation="h",
                name=str(part),
                marker={
                    "color": OTHER,
                    "pattern": _pattern(str(part)),
                },
                hoverinfo="skip",
            )
    figure.add_scatter(
        y=totals["label"],
        x=totals["predicted"] / divisor,
        mode="markers",
        name="predicted from shapes",
        marker={"symbol": "line-ns", "size": 22 if len(totals) <= FEW else 14, "line": {"width": 2.5, "color": OTHER}},
        customdata=["not predicted" if pd.isna(count) else bytes_text(count) for count in totals["predicted"]],
        hovertemplate="<b>%{y}</b><br>predicted: %{customdata}<extra></extra>",
    )
    for row in totals.to_dict("records"):
        figure.add_annotation(
            y=row["label"],
            x=max(row["footprint"], row["predicted"]) / divisor,  # the footprint where nothing was predicted
            text=f" {bytes_text(row['footprint'])}",
            showarrow=False,
            xanchor="left",
            xshift=6,
        )
    widest = float(totals[["footprint", "predicted"]].max().max()) / divisor
    figure.update_xaxes(title=f"footprint ({unit})", range=[0, widest * 1.18], showgrid=True)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8)
    return figure


def _pattern(part: str) -> dict[str, Any]:
    return {"shape": _PATTERNS.get(part, "."), "fgcolor": "white", "size": 6, "fillmode": "overlay"}


def dtype_shares(frame: pd.DataFrame) -> go.Figure:
    """Which dtypes a precision's bytes are in, each bar adding up to 100 %."""
    labels = list(dict.fromkeys(frame["label"]))
    figure = blank_figure(row_height(len(labels)), barmode="stack", bargap=0.35)
    for dtype, rows in frame.groupby("dtype", sort=False):
        figure.add_bar(
            y=rows["label"],
            x=100 * rows["share"],
            orientation="h",
            name=str(dtype),
            marker={"color": dtype_color(str(dtype)), "line": {"width": 0}},
            text=[f"{100 * share:.3g} %" if share >= 0.12 and len(labels) <= FEW else "" for share in rows["share"]],
            textposition="inside",
            insidetextanchor="middle",
            textfont={"color": ink(dtype_color(str(dtype)))},
            customdata=[
                [bytes_text(count), f"{parameters:,}"]
                for count, parameters in zip(rows["bytes"], rows["parameters"], strict=True)
            ],
            hovertemplate=(
                f"<b>%{{y}}</b><br>{dtype}: %{{customdata[0]}} (%{{x:.3g}} %)<br>"
                "%{customdata[1]} parameters<extra></extra>"
            ),
        )
    figure.update_xaxes(title="share of stored bytes (%)", range=[0, 100.5], dtick=25, showgrid=True)
    figure.update_layout(legend_traceorder="normal")
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1], ticklabelstandoff=8)
    return figure


def modules(frame: pd.DataFrame) -> go.Figure:
    """A treemap of stored bytes by module path, each module in the colour of the dtype that holds most of it."""
    figure = blank_figure(460, uniformtext={"minsize": 9, "mode": "hide"})
    figure.add_treemap(
        ids=frame["id"],
        labels=[literal(label) for label in frame["label"]],
        parents=frame["parent"],
        values=frame["bytes"],
        branchvalues="total",
        sort=False,
        marker={
            "colors": [dtype_color(dtype) if dtype else "rgba(128,128,128,0.08)" for dtype in frame["dtype"]],
            "line": {"width": 1},
            "pad": {"t": 20, "l": 3, "r": 3, "b": 3},
            "cornerradius": 3,
        },
        maxdepth=-1 if len(frame) <= MANY_BOXES else 4,
        textfont={"color": [ink(dtype_color(dtype)) if dtype else QUIET for dtype in frame["dtype"]]},
        tiling={"pad": 1},
        customdata=[
            [literal(name), bytes_text(count), dtypes or "several modules"]
            for name, count, dtypes in zip(frame["name"], frame["bytes"], frame["dtypes"], strict=True)
        ],
        texttemplate="%{label}<br>%{customdata[1]}",
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>%{customdata[1]}, %{percentRoot:.1%} of all<br>%{customdata[2]}<extra></extra>"
        ),
        pathbar={"visible": True, "thickness": 22},
    )
    return figure
