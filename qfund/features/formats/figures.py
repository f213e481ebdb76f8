"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

import math

import pandas as pd
import plotly.graph_objects as go

from qfund.drawing.axes import blank_figure
from qfund.drawing.palette import OTHER, precision_color, translucent
from qfund.features.formats.request.formats import FORMATS

#: Powers of two that the chart of values begins and ends at: as wide as FP32, or close to FP16 and what is smaller.
_WIDE, _CLOSE = (-152, 130), (-27, 18)


def color(name: str) -> str:
    """That of the precision which stores weights so."""
    return precision_color(FORMATS[name].precision)


def per_power_of_two(frame: pd.DataFrame, chosen: str) -> go.Figure:
    """How many values each format has from one power of two to the next; both axes are logarithmic.

    As wide as the chosen format needs. FP64 is far above all others, and shown where it is chosen or asked for.
    """
    reach = frame[frame["name"] == chosen]["power"]
    first, last = _CLOSE if reach.min() >= _CLOSE[0] and reach.max() <= _CLOSE[1] else _WIDE
    figure = blank_figure(430, hovermode="closest")
    for name, rows in frame.groupby("name", sort=False):
        shown = _corners(rows[(rows["power"] >= first) & (rows["power"] <= last)])
        label = FORMATS[str(name)].label
        figure.add_scatter(
            x=shown["power"],
            y=[math.log2(count) for count in shown["count"]],
            name=label,
            visible=True if name != "fp64" or name == chosen else "legendonly",
            mode="lines+markers" if len(shown) < 8 else "lines",
            line={"color": color(str(name)), "width": 4 if name == chosen else 1.8},
            marker={"size": 6},
            customdata=[f"{count:,.0f}" for count in shown["count"]],
            hovertemplate=f"<b>{label}</b><br>from 2^%{{x}} to twice that: %{{customdata}} values<extra></extra>",
        )
    ticks = list(range(-144, last, 24)) if last > 100 else list(range(-24, last, 4))
    figure.update_xaxes(
        title="size of the number",
        range=[first, last],
        tickvals=ticks,
        ticktext=[_power(tick) for tick in ticks],
        showgrid=True,
    )
    heights = [0, 3, 7, 10, 23, 52]
    figure.update_yaxes(
        title="values up to the next power of two", tickvals=heights, ticktext=[_power(tick) for tick in heights]
    )
    return figure


def _corners(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the points inside a level stretch: a line needs its ends only."""
    same = (rows["count"] == rows["count"].shift()) & (rows["count"] == rows["count"].shift(-1))
    return rows[~same]


def where(sizes: pd.DataFrame, spans: pd.DataFrame) -> go.Figure:
    """The sizes of weights above, and below what each format reaches: solid where it has all its digits, light where it
    has fewer."""
    count = len(spans)
    figure = blank_figure(210 + 28 * count, bargap=0.08, barmode="overlay", showlegend=False)
    figure.add_bar(
        x=sizes["power"] + 0.5,
        y=sizes["share"],
        marker={"color": OTHER, "line": {"width": 0}},
        customdata=[[_power(power), _power(power + 1)] for power in sizes["power"]],
        hovertemplate="%{customdata[0]} to %{customdata[1]}: %{y:.3g} % of the weights<extra></extra>",
    )
    for place, row in enumerate(spans.to_dict("records")):
        shade = color(row["name"])
        for start, end, fill, what in (
            (row["smallest"], row["normal"], translucent(shade, 0.35), "fewer digits"),
            (row["normal"], row["largest"], shade, "all its digits"),
        ):
            if end > start:
                figure.add_bar(
                    y=[place],
                    x=[end - start],
                    base=[start],
                    orientation="h",
                    yaxis="y2",
                    marker={"color": fill, "line": {"width": 0}},
                    width=0.62,
                    hovertemplate=f"<b>{row['label']}</b>, {what}<br>from 2^{start:.4g} to 2^{end:.4g}<extra></extra>",
                )
    low, high = (float(sizes["power"].min()), float(sizes["power"].max()) + 1) if len(sizes) else (-24.0, 1.0)
    first, last = min(low, -26.0) - 4, max(high, 17.0) + 3
    step = 4 if last - first < 70 else 16
    ticks = [tick for tick in range(-320, 320, step) if first < tick < last]
    figure.update_xaxes(
        title="size of a weight",
        range=[first, last],
        tickvals=ticks,
        ticktext=[_power(tick) for tick in ticks],
        showgrid=True,
        anchor="y2",
    )
    split = 28 * count / (150 + 28 * count)
    figure.update_layout(
        yaxis={"domain": [split + 0.03, 1], "title": "% of weights", "rangemode": "tozero", "nticks": 4},
        yaxis2={
            "domain": [0, split],
            "anchor": "x",
            "tickvals": list(range(count)),
            "ticktext": list(spans["label"]),
            "autorange": "reversed",
            "showgrid": False,
            "ticklabelstandoff": 6,
        },
    )
    return figure


def _power(exponent: float) -> str:
    return f"2<sup>{'−' * (exponent < 0)}{abs(int(exponent))}</sup>"
