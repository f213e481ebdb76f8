"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

import math

import pandas as pd
import plotly.graph_objects as go

from qfund.drawing.axes import blank_figure, byte_unit, literal, marker
from qfund.drawing.palette import OTHER
from qfund.features.layers.request.modules import Values
from qfund.features.layers.words import axis_names

_ROW = 22  # pixels of a module in a heat map


def heat_map(frame: pd.DataFrame, value: str, title: str) -> go.Figure:
    """Parts from top to bottom, precisions from left to right, the colour by the logarithm of ``value``; ``frame`` has
    ``part`` (or ``module``) and ``label``."""
    part = "part" if "part" in frame else "module"
    parts, labels = list(dict.fromkeys(frame[part])), list(dict.fromkeys(frame["label"]))
    held = frame.set_index([part, "label"])[value].to_dict()
    values = [[held.get((name, label)) for label in labels] for name in parts]
    logs = [[math.log10(cell) if cell else None for cell in row] for row in values]
    texts = [["–" if cell is None else _short(cell) for cell in row] for row in values]
    known = [cell for row in logs for cell in row if cell is not None]
    low, high = (math.floor(min(known)), math.ceil(max(known))) if known else (-1, 0)
    high = max(high, low + 1)
    figure = blank_figure(70 + _ROW * len(parts))
    figure.add_heatmap(
        z=logs,
        x=labels,
        y=[literal(name) for name in axis_names(parts)],
        text=texts,
        texttemplate="%{text}",
        colorscale="Cividis",
        zmin=low,
        zmax=high,
        xgap=1,
        ygap=1,
        hovertext=[[literal(name)] * len(labels) for name in parts],
        hovertemplate="<b>%{hovertext}</b><br>%{x}: %{text}<extra></extra>",
        colorbar={
            "title": {"text": title, "side": "right"},
            "tickvals": list(range(low, high + 1)),
            "ticktext": [f"1e{power}" if power else "1" for power in range(low, high + 1)],
            "thickness": 12,
        },
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    figure.update_xaxes(side="top", showgrid=False, automargin=True)
    return figure


def _short(value: float) -> str:
    """``5.3e-3``: all cells of a map in one notation, as narrow as it can be."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if value else "0"


def forgiven(frame: pd.DataFrame) -> go.Figure:
    """Injected against propagated error, a point for each part: below the cloud, what the rest of the network forgives;
    above it, what it amplifies."""
    figure = blank_figure(420)
    for name, rows in frame[(frame["injected"] > 0) & (frame["kl"] > 0)].groupby("precision", sort=False):
        figure.add_scatter(
            x=100 * rows["injected"],
            y=rows["kl"],
            name=str(rows["label"].iloc[0]),
            mode="markers",
            marker=marker(str(name), 10),
            text=[literal(part) for part in rows["part"]],
            hovertemplate="<b>%{text}</b><br>own output changed by %{x:.3g} %, costs %{y:.3g} nat<extra></extra>",
        )
    figure.update_xaxes(title="its own output changes by (%)", type="log", exponentformat="none", showgrid=True)
    figure.update_yaxes(title="KL at the output (nat)", type="log", exponentformat="power", showgrid=True)
    return figure


def frontier(frame: pd.DataFrame, budget: int) -> go.Figure:
    """Memory against KL: the best mixes as foretold, uniform precisions and the recipe as measured."""
    scale, unit = byte_unit(int(frame["bytes"].max()))
    figure = blank_figure(420)
    line = frame[(frame["what"] == "frontier") & (frame["predicted"] > 0)].sort_values("bytes")
    figure.add_scatter(
        x=line["bytes"] / scale,
        y=line["predicted"],
        name="best mix, foretold",
        mode="lines+markers",
        line={"color": OTHER, "dash": "dot", "width": 1.5},
        marker={"size": 5, "color": OTHER},
        text=line["label"],
        hovertemplate="%{text}<br>%{x:.4g} " + unit + ", foretold %{y:.3g} nat<extra></extra>",
    )
    for row in frame[(frame["what"] != "frontier") & (frame["kl"] > 0)].to_dict("records"):
        mixed = row["what"] == "recipe"
        figure.add_scatter(
            x=[row["bytes"] / scale],
            y=[row["kl"]],
            error_y=None
            if pd.isna(row["low"])
            else {
                "array": [row["high"] - row["kl"]],
                "arrayminus": [max(0.0, min(row["kl"] - row["low"], 0.999 * row["kl"]))],
                "thickness": 2,
                "width": 6,
            },
            name="the recipe" if mixed else row["label"],
            mode="markers",
            marker={"size": 16, "symbol": "star", "color": OTHER} if mixed else marker(row["precision"], 12),
            hovertemplate=f"<b>{row['label']}</b><br>%{{x:.4g}} {unit}, %{{y:.3g}} nat<extra></extra>",
        )
    figure.add_vline(x=budget / scale, line={"dash": "dash", "color": OTHER, "width": 1})
    figure.update_xaxes(title=f"memory of the whole model ({unit})", showgrid=True)
    figure.update_yaxes(title="KL divergence (nat)", type="log", exponentformat="power", showgrid=True)
    return figure


def spread(values: Values) -> go.Figure:
    """How many numbers have which magnitude, by powers of ten."""
    held = values.spread
    used = [place for place, count in enumerate(held.counts) if count]
    places = range(min(used, default=0), max(used, default=0) + 1)
    figure = blank_figure(240, showlegend=False, bargap=0.05)
    figure.add_bar(
        x=[10 ** (held.low + (place + 0.5) * held.width) for place in places],
        y=[held.counts[place] for place in places],
        width=[10 ** (held.low + held.width * place) * (10**held.width - 1) for place in places],
        marker={"color": OTHER},
        hovertemplate="about %{x:.2g}: %{y:,}<extra></extra>",
    )
    figure.add_vline(x=values.rms, line={"dash": "dot", "color": OTHER})
    figure.update_xaxes(title="magnitude (the dotted line: root mean square)", type="log", exponentformat="power")
    figure.update_yaxes(title="how many", showgrid=True)
    return figure
