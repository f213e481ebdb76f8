"""A ranking → Plotly figures: pure and deterministic."""

from collections.abc import Sequence

import plotly.graph_objects as go

from qfund.core.units import bytes_text
from qfund.drawing.axes import FEW, blank_figure, literal
from qfund.drawing.palette import QUIET, precision_color, symbol
from qfund.drawing.phrases import label
from qfund.features.sweep import words
from qfund.features.sweep.request.ranking import Line

#: Damage below this share of the margin is drawn there: some is 0, and a perplexity may be better.
LEAST = 1e-3


def against_margin(lines: Sequence[Line]) -> go.Figure:
    """Memory as a share of the reference's against damage as a share of the margin, both of every candidate; those
    that are larger than their reference, or whose damage is not known, are left out. What is below the line at 1 is
    within the margin, as far as its value goes; filled marks are certain to be."""
    known = [line for line in lines if line.share <= 1 and line.finding is not None and line.finding.margin]
    precisions = dict.fromkeys(line.precision for line in sorted(known, key=lambda line: line.share))
    figure = blank_figure(380, showlegend=len(precisions) <= FEW)
    for precision in precisions:
        rows = [line for line in known if line.precision == precision]
        color = precision_color(precision)
        figure.add_scatter(
            x=[100 * line.share for line in rows],
            y=[max(line.strain, LEAST) for line in rows],
            name=label(precision),
            mode="markers",
            marker={
                "size": 11,
                "color": [color if line.good else "rgba(0,0,0,0)" for line in rows],
                "symbol": symbol(precision).removesuffix("-open"),
                "line": {"width": 2, "color": color},
            },
            customdata=[[literal(line.model), bytes_text(line.bytes), _told(line), line.text] for line in rows],
            hovertemplate=(
                f"<b>%{{customdata[0]}}</b>, {label(precision)}<br>%{{customdata[1]}}, %{{customdata[2]}}"
                "<extra></extra>"
            ),
            cliponaxis=False,
        )
    figure.add_hline(y=1.0, line={"color": QUIET, "width": 1, "dash": "dash"})
    figure.update_xaxes(title="memory, % of the reference's", rangemode="tozero", showgrid=True)
    figure.update_yaxes(title="damage ÷ margin", type="log", dtick=1, exponentformat="power", showgrid=True)
    return figure


def _told(line: Line) -> str:
    return f"{words.verdict(line)}: {words.damage(line)}"
