"""How far outputs move: distributions, and damage against memory and bits."""

import math
from itertools import combinations
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import bytes_text, number_text
from qfund.drawing.axes import FEW, blank_figure, byte_unit, marker
from qfund.drawing.palette import LIT, OTHER, PALETTE, dash, family_color, precision_color, symbol, translucent
from qfund.features.compare.figures.labels import CHARACTER, label_box, name_places, overlap, pixels
from qfund.features.compare.tables.damage import frontier
from qfund.precisions.files import family_of
from qfund.precisions.precision import FAMILIES


def differences(frame: pd.DataFrame, quantity: str = "logit difference") -> go.Figure:
    """The distribution of |difference| over a logarithmic axis: a stepped line for each candidate, or, where there are
    many, a row of a heat map for each."""
    if frame["precision"].nunique() > FEW:
        return _heat_map(frame, quantity)
    figure = blank_figure(340, hovermode="closest")
    for name, rows in frame.groupby("precision", sort=False):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["centre"],
            y=100 * rows["share"],
            name=label,
            mode="lines",
            line={
                "color": precision_color(str(name)),
                "width": 2,
                "shape": "hvh",
                "dash": dash(str(name)),
            },
            fill="tozeroy",
            fillcolor=translucent(precision_color(str(name)), 0.12),
            customdata=rows[["low", "high"]],
            hovertemplate=(
                f"<b>{label}</b><br>%{{customdata[0]:.2e}} to %{{customdata[1]:.2e}}<br>%{{y:.2f}} %<extra></extra>"
            ),
        )
    _axis_of_differences(figure, frame, quantity)
    figure.update_yaxes(title="share of all outputs (%)", rangemode="tozero")
    return figure


def memory_against_damage(
    frame: pd.DataFrame, reference_bytes: int, floor: float | None = None, lit: str | None = None
) -> go.Figure:
    """Footprint against the loss of fidelity: lower left is better. Dotted lines are the reference's footprint, and the
    frontier: those to which no other is both smaller and closer. A band reaches up to the noise ``floor``, and a ring
    is around what is ``lit``.

    The axis is logarithmic and spans whole decades; a loss of 0 is not on it, unless there is no other.
    """
    lossy = frame[frame["value"] > 0]
    exact = lossy.empty
    drawn = frame if exact else lossy
    drawn = drawn.assign(
        hover=[
            f"{bytes_text(row['bytes'])}<br>{row['name']}: {number_text(row['value'])} {row['unit']}"
            for row in drawn.to_dict("records")
        ]
    )
    largest = max(reference_bytes, int(frame["bytes"].max()))
    divisor, unit = byte_unit(largest)
    widest, right = largest / divisor, largest / divisor * 1.12
    few = len(frame) <= FEW
    height = 340 if few else min(720, 140 + 20 * len(frame))
    figure = blank_figure(height, showlegend=not few)
    decades = [0, 1] if exact else _decades(frame, floor)
    if not exact and floor and floor_is_near(frame, floor):
        figure.add_hrect(y0=10.0 ** (decades[0] - 1), y1=floor, line={"width": 0}, fillcolor=OTHER, opacity=0.18)
    best = frontier(drawn, "bytes")
    if len(best) > 1 and not exact:
        _frontier_line(figure, best["bytes"] / divisor, best["value"])
    chosen = drawn[drawn["precision"] == lit]
    if not chosen.empty:
        figure.add_scatter(
            x=chosen["bytes"] / divisor,
            y=chosen["value"],
            mode="markers",
            marker={"size": 28, "color": translucent(LIT, 0.35), "line": {"width": 2, "color": LIT}},
            showlegend=False,
            hoverinfo="skip",
            cliponaxis=False,
        )
    wide, high = 400 * widest / right, height - 140  # pixels between the axes
    across = wide / widest * drawn["bytes"] / divisor
    up = 0 * drawn["value"] if exact else pixels(drawn["value"], decades, high)
    places = name_places(drawn, "bytes", across, up, (wide, high))
    if few:
        # Towards the middle, so that no label leaves the picture or crosses the reference's line.
        middle = {
            name: "middle right" if count / divisor < 0.55 * widest else "middle left"
            for name, count in zip(drawn["precision"], drawn["bytes"], strict=True)
        }
        boxes = [
            label_box(middle[name], (x, y), CHARACTER * len(text))
            for name, text, x, y in zip(drawn["precision"], drawn["label"], across, up, strict=True)
        ]
        crowded = any(overlap(one, other) for one, other in combinations(boxes, 2))
        _one_by_one(figure, drawn, divisor, middle | places if crowded else middle)
    else:
        _by_family(figure, drawn, drawn["bytes"] / divisor, places, 10)
    figure.add_vline(
        x=reference_bytes / divisor,
        line={"dash": "dot", "color": OTHER, "width": 1.5},
        annotation={"text": "reference", "textangle": -90, "xanchor": "left", "xshift": 3, "font": {"color": OTHER}},
    )
    figure.update_xaxes(title=f"footprint ({unit})", range=[0, right], showgrid=True)
    axis: dict[str, Any] = {"type": "linear", "range": [-0.1, 1], "tickvals": [0]}
    if not exact:
        tick = 1 + (decades[1] - decades[0]) // 9
        axis = {"type": "log", "range": decades, "exponentformat": "power", "dtick": tick}
    title = frame["name"].iloc[0] + (f" ({frame['unit'].iloc[0]})" if frame["unit"].iloc[0] else "")
    figure.update_yaxes(title=title, **axis)
    return figure


def floor_is_near(frame: pd.DataFrame, floor: float) -> bool:
    """Whether a noise floor is drawn: one that is far below all candidates would take the picture."""
    lossy = frame["value"][frame["value"] > 0]
    return len(lossy) > 0 and floor > float(lossy.min()) / 300


def bits_against_damage(frame: pd.DataFrame) -> go.Figure:
    """Bits of a weight against KL divergence, one colour a family; a line through those that nothing beats on both."""
    figure = blank_figure(480, hovermode="closest")
    frame = frame.reset_index(drop=True)
    best = frontier(frame, "bits")
    wide = [math.log10(0.8 * frame["bits"].min()), math.log10(1.25 * frame["bits"].max())]
    high = [math.log10(0.8 * frame["value"].min()), math.log10(1.25 * frame["value"].max())]
    # A narrower picture than a wide screen's, so that labels keep apart where a window is smaller.
    named = name_places(frame, "bits", pixels(frame["bits"], wide, 800), pixels(frame["value"], high, 360), (800, 360))
    _frontier_line(figure, best["bits"], best["value"])
    told = [
        f"{row['bits']:.4g} bits per weight<br>KL divergence {number_text(row['value'])} nat<br>"
        f"whole model {bytes_text(row['bytes'])}"
        for row in frame.to_dict("records")
    ]
    _by_family(figure, frame.assign(hover=told), frame["bits"], named, 11)
    figure.update_xaxes(
        title="bits per weight, scales included",
        type="log",
        tickvals=[2, 3, 4, 5, 6, 8, 16, 32, 64],
        range=wide,
        showgrid=True,
    )
    figure.update_yaxes(title="KL divergence to the reference (nat)", type="log", exponentformat="power", dtick=1)
    return figure


def _axis_of_differences(figure: go.Figure, frame: pd.DataFrame, quantity: str) -> None:
    # A long thin tail of tiny differences would take half of the width.
    shown = frame[frame["share"] > 2e-4]
    if not shown.empty:
        figure.update_xaxes(range=[math.log10(shown["low"].min()), math.log10(frame["high"].max())])
    figure.update_xaxes(type="log", title=f"|{quantity}|", exponentformat="power", dtick=1, showgrid=True)


def _heat_map(frame: pd.DataFrame, quantity: str) -> go.Figure:
    labels = list(dict.fromkeys(frame["label"]))
    grid = frame.pivot_table(index="label", columns="centre", values="share", sort=False).reindex(labels)
    grid = 100 * grid[sorted(grid.columns)].fillna(0.0)
    figure = blank_figure(60 + 20 * len(labels))
    figure.add_heatmap(
        x=list(grid.columns),
        y=labels,
        z=grid.to_numpy(),
        colorscale=[[0, translucent(PALETTE[0], 0)], [1, PALETTE[0]]],
        showscale=False,
        ygap=3,
        hovertemplate="<b>%{y}</b><br>about %{x:.2e}<br>%{z:.2f} % of all outputs<extra></extra>",
    )
    _axis_of_differences(figure, frame, quantity)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8, showgrid=False, dtick=1)
    return figure


def _decades(frame: pd.DataFrame, floor: float | None) -> list[int]:
    """The powers of ten between which all losses but 0 lie, and the noise floor where it is drawn."""
    lossy = frame["value"][frame["value"] > 0]
    low, high = math.floor(math.log10(0.8 * lossy.min())), math.ceil(math.log10(1.25 * lossy.max()))
    if floor and floor_is_near(frame, floor):
        low = min(low, math.floor(math.log10(floor)))
    return [low, high]


def _frontier_line(figure: go.Figure, x: "pd.Series[float]", y: "pd.Series[float]") -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name="nothing is both smaller and closer",
        line={"color": OTHER, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )


def _one_by_one(figure: go.Figure, frame: pd.DataFrame, divisor: float, places: dict[str, str]) -> None:
    """A mark for each row, in the precision's own colour, with its interval and with its label at its place."""
    for row in frame.to_dict("records"):
        figure.add_scatter(
            x=[row["bytes"] / divisor],
            y=[row["value"]],
            error_y=_interval(row),
            mode="markers+text",
            marker=marker(row["precision"], 14),
            text=[row["label"]],
            textposition=places[row["precision"]],
            hovertemplate=f"<b>{row['label']}</b><br>{row['hover']}<extra></extra>",
            cliponaxis=False,
        )


def _interval(row: dict[Any, Any]) -> dict[str, Any] | None:
    """The 95 % interval where it is known, else the standard error."""
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        ends = {
            "array": [row["high"] - row["value"]],
            "arrayminus": [row["value"] - max(row["low"], 0.01 * row["value"])],
        }
    elif pd.notna(row["se"]):
        ends = {"array": [row["se"]]}
    else:
        return None
    return ends | {"thickness": 1.5, "width": 6}


def _by_family(figure: go.Figure, frame: pd.DataFrame, x: "pd.Series[float]", named: dict[str, str], size: int) -> None:
    """A mark for each row of a frame at ``x`` and its ``value``, in the colour of its family; those that are ``named``
    with their label. The frame's ``hover`` says more."""
    frame = frame.assign(x=x, family=[family_of(name) for name in frame["precision"]])
    for family in FAMILIES:
        rows = frame[frame["family"] == family]
        if rows.empty:
            continue
        figure.add_scatter(
            x=rows["x"],
            y=rows["value"],
            mode="markers+text",
            name=family,
            marker={
                "color": family_color(family),
                "size": size,
                "opacity": 0.85,
                "symbol": [symbol(name) for name in rows["precision"]],
                "line": {"width": 2, "color": family_color(family)},
            },
            text=[label if name in named else "" for name, label in zip(rows["precision"], rows["label"], strict=True)],
            textposition=[named.get(name, "top right") for name in rows["precision"]],
            customdata=rows[["label", "hover"]],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
            cliponaxis=False,
        )
