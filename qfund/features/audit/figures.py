"""The map of a quantised file's modules: places of a layer from top to bottom, layers from left to right."""

import math

import pandas as pd
import plotly.graph_objects as go

from qfund.drawing.axes import blank_figure, literal

_ROW = 24  # pixels of a place in the layers
_MANY = 16  # layers from on which a cell has no room for its text
#: SQNR in dB from which on a tensor is drawn as the original's own numbers.
_HIGH = 60.0
_OUTSIDE = "–"  # the column of what lies in no layer


def types(frame: pd.DataFrame) -> go.Figure:
    """What each matrix is stored as; the colour by its bits per weight, scales included."""
    return _map(frame, frame["bits"], frame["type"], "bits per weight", (0.0, None))


def sqnr(frame: pd.DataFrame) -> go.Figure:
    """How far each tensor is from the original's, in dB: what is darker lost more."""
    texts = frame["sqnr"].map(
        lambda value: "" if math.isnan(value) else "same" if math.isinf(value) else f"{value:.1f}"
    )
    return _map(frame, frame["sqnr"].clip(upper=_HIGH), texts, "SQNR (dB)", (None, _HIGH))


def _map(
    frame: pd.DataFrame,
    values: "pd.Series[float]",
    texts: "pd.Series[str]",
    title: str,
    ends: tuple[float | None, float | None],
) -> go.Figure:
    layers = sorted(frame["layer"].dropna().unique())
    columns = [_OUTSIDE] * bool(frame["layer"].isna().any()) + [str(layer) for layer in layers]
    where = frame["layer"].map(lambda layer: _OUTSIDE if pd.isna(layer) else str(layer))
    places = list(dict.fromkeys(frame["place"]))
    cells: dict[tuple[str, str], tuple[float, str, str]] = {}
    for place, column, value, text, kind in zip(frame["place"], where, values, texts, frame["type"], strict=True):
        held = cells.get((place, column))
        if held is None or value < held[0]:  # of experts of one place, the least
            cells[place, column] = (value, text, f"{kind}, {text} dB" if title.startswith("SQNR") else text)
    rows = [[cells.get((place, column)) for column in columns] for place in places]
    figure = blank_figure(70 + _ROW * len(places))
    low, high = ends
    figure.add_heatmap(
        z=[[None if cell is None or math.isnan(cell[0]) else cell[0] for cell in row] for row in rows],
        x=columns,
        y=[literal(place) for place in places],
        text=[["" if cell is None else literal(cell[1]) for cell in row] for row in rows],
        texttemplate="%{text}" if len(columns) <= _MANY else None,
        customdata=[["" if cell is None else literal(cell[2]) for cell in row] for row in rows],
        colorscale="Cividis",
        zmin=float(values.min()) if low is None else low,
        zmax=float(values.max()) if high is None else high,
        xgap=1,
        ygap=1,
        hovertemplate="<b>%{y}</b>, layer %{x}<br>%{customdata}<extra></extra>",
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    figure.update_xaxes(title="layer", side="top", type="category", showgrid=False, automargin=True)
    return figure
