"""How differences are spread: percentiles, tails, buckets by confidence, errors along blocks.

One colour a precision, and a family's colour where there are many.
"""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from qfund.core.metrics.table import METRICS
from qfund.core.units import number_text
from qfund.drawing.axes import FEW, blank_figure, literal
from qfund.drawing.numbers import heading
from qfund.drawing.palette import OTHER, dash, family_color, precision_color, symbol
from qfund.features.compare.tables.statistics import DRIFTS
from qfund.precisions.files import family_of


def drift(frame: pd.DataFrame, which: str) -> go.Figure:
    """The error of the hidden states after every block, one line a candidate. A cross marks where values that are not
    finite first appear."""
    figure = blank_figure(340, hovermode="closest")
    many, seen = frame["precision"].nunique() > FEW, set[str]()
    title, field = DRIFTS[which]
    for name, rows in _groups(frame):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["place"],
            y=rows["value"],
            mode="lines+markers",
            line=_line(name, many),
            marker={
                "size": 4 if many or len(rows) > 24 else 7,
                "symbol": symbol(name),
            },
            opacity=0.75 if many else 1,
            customdata=[
                [literal(block), number_text(value) if math.isfinite(value) else "not finite"]
                for block, value in zip(rows["block"], rows["value"], strict=True)
            ],
            hovertemplate=f"<b>{label}</b><br>after %{{customdata[0]}}<br>{which} %{{customdata[1]}}<extra></extra>",
            **_legend(name, label, many, seen),
        )
    broken = frame[frame["broken"]]
    if not broken.empty:
        # A block after which nothing is finite has no value: it is marked where the line ended.
        held = frame["value"].where(frame["value"].map(math.isfinite)).groupby(frame["precision"]).ffill()
        heights = held[broken.index].fillna(frame["value"].max())
        figure.add_scatter(
            x=broken["place"],
            y=heights,
            mode="markers",
            name="first not finite",
            marker={"symbol": "x", "size": 13, "color": OTHER, "line": {"width": 1.5, "color": "white"}},
            customdata=[
                [row["label"], literal(row["block"]), f"{row['nonfinite']:,}"] for row in broken.to_dict("records")
            ],
            hovertemplate=(
                "<b>%{customdata[0]}</b><br>after %{customdata[1]}: %{customdata[2]} positions are not finite"
                "<extra></extra>"
            ),
        )
    figure.update_xaxes(title="after block", showgrid=False, rangemode="tozero", tickformat="d")
    figure.update_yaxes(title=title, **({} if field == "sqnr" else _logarithmic(frame["value"])))
    return figure


def percentiles(frame: pd.DataFrame) -> go.Figure:
    """How the KL divergence is spread over positions: one line a candidate over a logarithmic axis."""
    figure = blank_figure(340, hovermode="closest")
    many, seen = frame["precision"].nunique() > FEW, set[str]()
    for name, rows in _groups(frame[frame["value"] > 0]):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["name"],
            y=rows["value"],
            mode="lines+markers",
            line=_line(name, many),
            marker={"size": 4 if many else 7, "symbol": symbol(name)},
            opacity=0.75 if many else 1,
            customdata=[number_text(value) for value in rows["value"]],
            hovertemplate=f"<b>{label}</b><br>%{{x}} of positions: %{{customdata}} nat or less<extra></extra>",
            **_legend(name, label, many, seen),
        )
    order = list(dict.fromkeys(frame["name"]))
    figure.update_xaxes(
        title="percentile of positions", type="category", categoryorder="array", categoryarray=order, tickangle=-40
    )
    figure.update_yaxes(title="KL divergence (nat)", **_logarithmic(frame["value"]))
    return figure


def tails(frame: pd.DataFrame) -> go.Figure:
    """What the correct token loses at the worst and gains at the best hundredth of positions, one row a candidate."""
    shown = frame[(frame["loss"] > 0) | (frame["gain"] > 0)]
    rows = len(shown)
    figure = blank_figure(96 + rows * (40 if rows <= FEW else 22), hovermode="closest")
    colors = [precision_color(name) for name in shown["precision"]]
    for row in shown.to_dict("records"):
        if row["loss"] > 0 and row["gain"] > 0:
            figure.add_scatter(
                x=[100 * row["loss"], 100 * row["gain"]],
                y=[row["label"]] * 2,
                mode="lines",
                line={"color": precision_color(row["precision"]), "width": 3},
                showlegend=False,
                hoverinfo="skip",
            )
    for column, triangle, name in (
        ("loss", "triangle-left", "lost at 1 %"),
        ("gain", "triangle-right-open", "gained at 1 %"),
    ):
        figure.add_scatter(
            x=100 * shown[column].where(shown[column] > 0),
            y=shown["label"],
            mode="markers",
            name=name,
            marker={"symbol": triangle, "size": 13, "color": colors, "line": {"width": 2, "color": colors}},
            hovertemplate=f"<b>%{{y}}</b><br>{name} of positions: %{{x:.3g}} %-points or more<extra></extra>",
        )
    both = pd.concat([shown["loss"], shown["gain"]])
    figure.update_xaxes(title="p(correct token), %-points", showgrid=True, **_logarithmic(both))
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8, dtick=1, showgrid=False)
    return figure


def buckets(frame: pd.DataFrame, metric: str) -> go.Figure:
    """One metric where the reference is sure and where it is not: one line a candidate, with its 95 % interval."""
    shown = frame[frame["metric"] == metric]
    share = METRICS[metric].unit == "share"
    figure = blank_figure(340, hovermode="closest")
    many, seen = shown["precision"].nunique() > FEW, set[str]()
    logarithmic = metric == "kl_mean"
    for name, rows in _groups(shown[shown["value"] > 0] if logarithmic else shown):
        label, times = rows["label"].iloc[0], 100 if share else 1
        low = rows["low"].clip(lower=rows["value"] * 1e-3) if logarithmic else rows["low"]
        figure.add_scatter(
            x=rows["bucket"],
            y=times * rows["value"],
            mode="lines+markers",
            line=_line(name, many),
            marker={"size": 4 if many else 7, "symbol": symbol(name)},
            error_y=None
            if many
            else {
                "array": times * (rows["high"] - rows["value"]),
                "arrayminus": times * (rows["value"] - low),
                "thickness": 1.25,
                "width": 4,
            },
            opacity=0.75 if many else 1,
            customdata=[
                [number_text(times * value), f"{n:,}"] for value, n in zip(rows["value"], rows["n"], strict=True)
            ],
            hovertemplate=(
                f"<b>{label}</b><br>reference's largest p in %{{x}}<br>%{{customdata[0]}}"
                f"{' %' if share else ''} over %{{customdata[1]}} positions<extra></extra>"
            ),
            **_legend(name, label, many, seen),
        )
    figure.update_xaxes(title="the reference's largest probability", type="category", showgrid=False)
    figure.update_yaxes(title=heading(metric))
    if logarithmic:
        figure.update_yaxes(**_logarithmic(shown["value"]))
    return figure


def _groups(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), rows) for name, rows in frame.groupby("precision", sort=False)]


def _line(name: str, many: bool) -> dict[str, Any]:
    family = family_of(name)
    return {
        "color": family_color(family) if many else precision_color(name),
        "width": 1.25 if many else 2.25,
        "dash": dash(name),
    }


def _legend(name: str, label: str, many: bool, seen: set[str]) -> dict[str, Any]:
    """One entry a candidate, or one a family."""
    if not many:
        return {"name": label}
    family = family_of(name) or "other"
    first = family not in seen
    seen.add(family)
    return {"name": family, "legendgroup": family, "showlegend": first}


def _logarithmic(values: "pd.Series[float]") -> dict[str, Any]:
    """A logarithmic axis with some lines, whether it spans a third of a decade or thirty."""
    positive = values[(values > 0) & (values < math.inf)]
    decades = math.log10(positive.max() / positive.min()) if len(positive) else 1.0
    axis: dict[str, Any] = {"type": "log", "exponentformat": "power"}
    if decades >= 1.3 or not len(positive):
        return axis | {"dtick": max(1, round(decades / 8))}
    first = math.floor(math.log10(positive.min()))
    ticks = [digit * 10.0**power for power in (first, first + 1, first + 2) for digit in (1, 2, 5)]
    return axis | {"tickmode": "array", "tickvals": ticks, "ticktext": [number_text(tick) for tick in ticks]}
