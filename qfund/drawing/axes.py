"""What figures of all features share: an empty figure, its marks, its units."""

from typing import Any

import plotly.graph_objects as go

from qfund.core.units import bytes_text
from qfund.drawing.palette import precision_color, symbol

#: More candidates are drawn smaller, and their distributions as a heat map.
FEW = 8

#: For st.plotly_chart: of Plotly's tools only the one that saves the figure, as SVG, seen under a mouse; a finger
#: scrolls the page instead of zooming.
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "scrollZoom": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "svg", "filename": "qfund"},
}


def literal(name: str) -> str:
    """A tensor's name as text: Plotly reads some HTML, and names come from checkpoints."""
    return name.replace("&", "&amp;").replace("<", "&lt;")


def row_height(rows: int) -> int:
    """Height of a figure with one bar a row: bars become thinner where there are many."""
    return 86 + rows * (46 if rows <= FEW else 28)


def blank_figure(height: int, **layout: Any) -> go.Figure:
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


def marker(precision: str, size: int) -> dict[str, Any]:
    color = precision_color(precision)
    return {
        "color": color,
        "size": size,
        "symbol": symbol(precision),
        "line": {"width": 2, "color": color},
    }


def byte_unit(largest: int) -> tuple[float, str]:
    """A divisor and its unit for an axis that reaches ``largest`` bytes."""
    text_unit = bytes_text(largest).split()[1]
    return 1024.0 ** ("B", "KiB", "MiB", "GiB", "TiB").index(text_unit), text_unit
