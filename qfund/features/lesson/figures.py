"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

from html import escape

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import bytes_text
from qfund.drawing.axes import blank_figure, byte_unit
from qfund.drawing.palette import OTHER, PALETTE, QUIET, dtype_color, precision_color

_PARTS = {
    "codes": PALETTE[3],
    "layers as floats": PALETTE[0],
    "embeddings": PALETTE[1],
    "head": PALETTE[4],
    "norms": PALETTE[2],
    "biases": PALETTE[7],
    "scales": PALETTE[5],
    "buffers": OTHER,
}


def _heights(bars: int) -> int:
    return 118 + 46 * bars


def parts(frame: pd.DataFrame) -> go.Figure:
    """Footprints as stacked bars, one colour a part; the sum stands with the name."""
    return _stacked(frame, {str(part): _PARTS.get(str(part), OTHER) for part in frame["part"]})


def cast_bytes(frame: pd.DataFrame) -> go.Figure:
    """Bytes before and after the cast, one colour a dtype; buffers are hatched."""
    return _stacked(frame, dict(zip(frame["part"], map(dtype_color, frame["dtype"]), strict=True)))


def _stacked(frame: pd.DataFrame, colors: dict[str, str]) -> go.Figure:
    totals = frame.groupby("label", sort=False)["bytes"].sum()
    divisor, unit = byte_unit(int(totals.max()))
    figure = blank_figure(_heights(len(totals)), barmode="stack", bargap=0.38)
    for part, rows in frame.groupby("part", sort=False):
        figure.add_bar(
            y=rows["label"],
            x=rows["bytes"] / divisor,
            orientation="h",
            name=str(part),
            marker={
                "color": colors[str(part)],
                "line": {"width": 0},
                "pattern": {"shape": "/" if str(part).startswith("buffers,") else ""},
            },
            customdata=[bytes_text(count) for count in rows["bytes"]],
            hovertemplate=f"<b>%{{y}}</b><br>{part}: %{{customdata}}<extra></extra>",
        )
    figure.update_xaxes(title=unit, rangemode="tozero", showgrid=True)
    figure.update_yaxes(
        autorange="reversed",
        ticklabelstandoff=8,
        tickvals=list(totals.index),
        ticktext=[
            f"{label}<br><span style='font-size:11px'>{bytes_text(total)}</span>" for label, total in totals.items()
        ],
        showgrid=False,
    )
    figure.update_layout(legend_traceorder="normal")
    return figure


def output_differences(frame: pd.DataFrame) -> go.Figure:
    """How far each shown output is from FP32's: a bar for each dtype."""
    names = list(dict.fromkeys(frame["output"]))
    figure = blank_figure(_heights(len(names)), barmode="group", bargap=0.35)
    for precision, rows in frame.groupby("precision", sort=False):
        figure.add_bar(
            y=[_plain(name) for name in rows["output"]],
            x=rows["difference"],
            orientation="h",
            name=rows["label"].iloc[0],
            marker={"color": precision_color(str(precision)), "line": {"width": 0}},
            hovertemplate="<b>%{y}</b><br>%{x:+.3e} from FP32<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": QUIET, "width": 1})
    figure.update_xaxes(title="value − the value in FP32", showgrid=True, exponentformat="power", nticks=6)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8, type="category")
    return figure


def _plain(name: str) -> str:
    """Plotly reads some HTML, and a token may be any text."""
    return escape(name, quote=False)


def errors_by_size(frame: pd.DataFrame) -> go.Figure:
    """Mean error against the weight's size, a line for each format: a float's rises, an integer's is level."""
    figure = blank_figure(360, hovermode="closest")
    for precision, rows in frame.groupby("precision", sort=False):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["magnitude"],
            y=rows["error"],
            mode="lines+markers",
            name=label,
            line={"color": precision_color(str(precision)), "width": 2.5},
            marker={"color": precision_color(str(precision)), "size": 7},
            customdata=rows["count"],
            hovertemplate=f"<b>{label}</b><br>|weight| about %{{x:.2e}}<br>mean |error| %{{y:.2e}}<br>"
            "%{customdata:,} weights<extra></extra>",
        )
    figure.update_xaxes(title="|weight|", type="log", exponentformat="power", dtick=1, showgrid=True)
    figure.update_yaxes(title="mean |error|", type="log", exponentformat="power", dtick=1)
    return figure


def ways(frame: pd.DataFrame) -> go.Figure:
    """What each way to load needs at its peak, and what stays, as multiples of the FP32 weights."""
    names = [_folded(name) for name in frame["label"]]
    figure = blank_figure(_heights(len(frame)) + 10 * len(frame), barmode="overlay", bargap=0.4, showlegend=False)
    for column, name, opacity in (("need", "at its peak", 0.45), ("settled", "what stays", 1.0)):
        figure.add_bar(
            y=names,
            x=frame[column],
            orientation="h",
            name=name,
            marker={
                "color": [precision_color(precision) for precision in frame["precision"]],
                "opacity": opacity,
                "line": {"width": 0},
            },
            hovertemplate=f"<b>%{{y}}</b><br>{name}: %{{x:.2f}} W<extra></extra>",
        )
    for name, need in zip(names, frame["need"], strict=True):
        figure.add_annotation(y=name, x=need, text=f"<b>{need:.2f}</b>", showarrow=False, xanchor="left", xshift=5)
    figure.update_xaxes(
        title="need, × the FP32 weights",
        range=[0, 1.18 * max(1.0, float(frame["need"].max()))],
        showgrid=True,
    )
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8, showgrid=False)
    return figure


def _folded(name: str) -> str:
    """Two lines, broken at a comma, so that a telephone has room for the bars."""
    head, found, rest = name.partition(", ")
    return f"{head},<br>{rest}" if found else name
