"""Times of a forward beside the reference's."""

import pandas as pd
import plotly.graph_objects as go

from qfund.drawing.axes import blank_figure, row_height
from qfund.drawing.palette import OTHER, QUIET, precision_color
from qfund.precisions.files import row_of


def latency(frame: pd.DataFrame) -> go.Figure:
    """The time of a forward as a ratio to the reference's: left of the line at 1 is faster."""
    shown = frame[frame["ratio"].notna()]
    names = [f"{row['label']} · {row['library']}" for row in shown.to_dict("records")]
    figure = blank_figure(row_height(len(shown)), bargap=0.35, showlegend=False)
    figure.add_bar(
        y=names,
        x=shown["ratio"],
        orientation="h",
        error_x={"array": shown["se"].fillna(0.0), "thickness": 1.5, "width": 4, "color": QUIET},
        marker={
            # qfund's own time of a quantised model is no format's time: it stands back.
            "color": [
                OTHER if library == "qfund" and row_of(name).quantizer else precision_color(name)
                for name, library in zip(shown["precision"], shown["library"], strict=True)
            ],
            "line": {"width": 0},
        },
        customdata=shown["latency"],
        hovertemplate="<b>%{y}</b><br>%{customdata}<extra></extra>",
    )
    figure.add_vline(x=1, line={"dash": "dot", "color": QUIET, "width": 1.5})
    figure.update_xaxes(title="time of a forward ÷ the reference's", rangemode="tozero", showgrid=True)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8)
    return figure
