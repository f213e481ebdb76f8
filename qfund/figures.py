"""Frames (``qfund.tables``) → Plotly figures. Pure and deterministic: the same frame gives the same figure.

Text, grid and background take Streamlit's theme, so a figure reads in the light and in the dark; colours that carry
meaning are set here, one for each precision and one for each dtype, the same in every figure.
"""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from qfund.precisions import PRECISIONS
from qfund.units import bytes_text, number_text

#: Ten colours that stay apart for colour-blind eyes; ``.streamlit/config.toml`` names the same (a test compares them).
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#44AA99",
    "#999933",
    "#661100",
)
OTHER = "#8A8F98"
QUIET = "#747B86"  # text that reads on white and on the dark theme
#: A treemap with more boxes shows its first levels; a click opens the next.
MANY_BOXES = 300

#: For st.plotly_chart: no tool bar to cover a small figure, and a finger scrolls the page instead of zooming.
CONFIG: dict[str, Any] = {"displayModeBar": False, "displaylogo": False, "scrollZoom": False}

_PATTERNS = {"weights": "", "scales": "/", "buffers": "x"}


def precision_colour(name: str) -> str:
    """By the place in the table of precisions."""
    names = list(PRECISIONS)
    return PALETTE[names.index(name) % len(PALETTE)] if name in names else OTHER


def dtype_colour(dtype: str) -> str:
    """The colour of the precision that stores its weights in this dtype; integers of the precision of that name."""
    for row in PRECISIONS.values():
        if (row.quantizer is None and row.dtype == dtype) or row.name == dtype:
            return precision_colour(row.name)
    return OTHER


def _translucent(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _literal(name: str) -> str:
    """A tensor's name as text: Plotly reads some HTML, and names come from checkpoints."""
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _ink(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour (relative luminance after WCAG)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return "black" if sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) > 0.179 else "white"


def _figure(height: int, **layout: Any) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
        hoverlabel={"align": "left"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": None},
        **layout,
    )
    return figure


def differences(frame: pd.DataFrame, quantity: str = "logit difference") -> go.Figure:
    """The distribution of |difference|, one stepped line for each candidate over a logarithmic axis."""
    figure = _figure(340, hovermode="closest")
    for name, rows in frame.groupby("precision", sort=False):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["centre"],
            y=100 * rows["share"],
            name=label,
            mode="lines",
            line={"color": precision_colour(str(name)), "width": 2, "shape": "hvh"},
            fill="tozeroy",
            fillcolor=_translucent(precision_colour(str(name)), 0.12),
            customdata=rows[["low", "high"]],
            hovertemplate=(
                f"<b>{label}</b><br>%{{customdata[0]:.2e}} to %{{customdata[1]:.2e}}<br>%{{y:.2f}} %<extra></extra>"
            ),
        )
    # A long thin tail of tiny differences would take half of the width.
    shown = frame[frame["share"] > 2e-4]
    if not shown.empty:
        figure.update_xaxes(range=[math.log10(shown["low"].min()), math.log10(frame["high"].max())])
    figure.update_xaxes(type="log", title=f"|{quantity}|", exponentformat="power", dtick=1, showgrid=True)
    figure.update_yaxes(title="share of all outputs (%)", rangemode="tozero")
    return figure


def memory_against_damage(frame: pd.DataFrame, reference_bytes: int) -> go.Figure:
    """Footprint against the loss of fidelity: lower left is better. The dotted line is the reference's footprint.

    The axis is logarithmic and spans whole decades; a loss of 0 is not on it, unless there is no other.
    """
    divisor, unit = _byte_unit(max(reference_bytes, int(frame["bytes"].max())))
    widest = max(reference_bytes, int(frame["bytes"].max())) / divisor
    figure = _figure(340, showlegend=False)
    title = frame["name"].iloc[0] + (f" ({frame['unit'].iloc[0]})" if frame["unit"].iloc[0] else "")
    lossy = frame[frame["value"] > 0]
    for row in (frame if lossy.empty else lossy).to_dict("records"):
        figure.add_scatter(
            x=[row["bytes"] / divisor],
            y=[row["value"]],
            error_y={"array": [row["se"]], "thickness": 1.5, "width": 6} if row["se"] and pd.notna(row["se"]) else None,
            mode="markers+text",
            marker={"color": precision_colour(row["precision"]), "size": 14},
            text=[row["label"]],
            # Towards the middle, so that no label leaves the picture or crosses the reference's line.
            textposition="middle right" if row["bytes"] / divisor < 0.55 * widest else "middle left",
            hovertemplate=(
                f"<b>{row['label']}</b><br>{bytes_text(row['bytes'])}<br>"
                f"{row['name']}: {number_text(row['value'])} {row['unit']}<extra></extra>"
            ),
            cliponaxis=False,
        )
    figure.add_vline(
        x=reference_bytes / divisor,
        line={"dash": "dot", "color": OTHER, "width": 1.5},
        annotation={"text": "reference", "textangle": -90, "xanchor": "left", "xshift": 3, "font": {"color": OTHER}},
    )
    figure.update_xaxes(title=f"footprint ({unit})", range=[0, widest * 1.12], showgrid=True)
    if lossy.empty:
        figure.update_yaxes(title=title, type="linear", range=[-0.1, 1], tickvals=[0])
        return figure
    decades = [math.floor(math.log10(0.8 * lossy["value"].min())), math.ceil(math.log10(1.25 * lossy["value"].max()))]
    figure.update_yaxes(title=title, type="log", range=decades, exponentformat="power", dtick=1)
    return figure


def _byte_unit(largest: int) -> tuple[float, str]:
    """A divisor and its unit for an axis that reaches ``largest`` bytes."""
    text_unit = bytes_text(largest).split()[1]
    return 1024.0 ** ("B", "KiB", "MiB", "GiB", "TiB").index(text_unit), text_unit


def footprints(parts: pd.DataFrame, totals: pd.DataFrame) -> go.Figure:
    """Stored bytes of each precision, stacked by part, with the prediction from shapes as a mark beside them."""
    divisor, unit = _byte_unit(int(totals[["footprint", "predicted"]].max().max()))
    figure = _figure(86 + 46 * len(totals), barmode="stack", bargap=0.35)
    for part, rows in parts.groupby("part", sort=False):
        if not rows["bytes"].sum():
            continue
        figure.add_bar(
            y=rows["label"],
            x=rows["bytes"] / divisor,
            orientation="h",
            name=str(part),
            marker={
                "color": [precision_colour(name) for name in rows["precision"]],
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
        marker={"symbol": "line-ns", "size": 22, "line": {"width": 2.5, "color": OTHER}},
        customdata=[bytes_text(count) for count in totals["predicted"]],
        hovertemplate="<b>%{y}</b><br>predicted: %{customdata}<extra></extra>",
    )
    for row in totals.to_dict("records"):
        figure.add_annotation(
            y=row["label"],
            x=max(row["footprint"], row["predicted"]) / divisor,
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
    figure = _figure(86 + 46 * len(labels), barmode="stack", bargap=0.35)
    for dtype, rows in frame.groupby("dtype", sort=False):
        figure.add_bar(
            y=rows["label"],
            x=100 * rows["share"],
            orientation="h",
            name=str(dtype),
            marker={"color": dtype_colour(str(dtype)), "line": {"width": 0}},
            text=[f"{100 * share:.3g} %" if share >= 0.12 else "" for share in rows["share"]],
            textposition="inside",
            insidetextanchor="middle",
            textfont={"color": _ink(dtype_colour(str(dtype)))},
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
    figure = _figure(460, uniformtext={"minsize": 9, "mode": "hide"})
    figure.add_treemap(
        ids=frame["id"],
        labels=[_literal(label) for label in frame["label"]],
        parents=frame["parent"],
        values=frame["bytes"],
        branchvalues="total",
        sort=False,
        marker={
            "colors": [dtype_colour(dtype) if dtype else "rgba(128,128,128,0.08)" for dtype in frame["dtype"]],
            "line": {"width": 1},
            "pad": {"t": 20, "l": 3, "r": 3, "b": 3},
            "cornerradius": 3,
        },
        maxdepth=-1 if len(frame) <= MANY_BOXES else 4,
        textfont={"color": [_ink(dtype_colour(dtype)) if dtype else QUIET for dtype in frame["dtype"]]},
        tiling={"pad": 1},
        customdata=[
            [_literal(name), bytes_text(count), dtypes or "several modules"]
            for name, count, dtypes in zip(frame["name"], frame["bytes"], frame["dtypes"], strict=True)
        ],
        texttemplate="%{label}<br>%{customdata[1]}",
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>%{customdata[1]}, %{percentRoot:.1%} of all<br>%{customdata[2]}<extra></extra>"
        ),
        pathbar={"visible": True, "thickness": 22},
    )
    return figure
