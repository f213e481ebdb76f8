"""Bytes of weights and cache against damage: a mark for each pair, and a line along those that no other beats."""

from collections.abc import Sequence

import plotly.graph_objects as go

from qfund.core.units import bytes_text
from qfund.drawing.axes import blank_figure, byte_unit
from qfund.drawing.palette import OTHER, precision_color, symbol
from qfund.drawing.phrases import label
from qfund.features.compare.request.together import Pair
from qfund.features.compare.words.together import kl_text
from qfund.precisions.caches import kv_of, title, weights_of


def frontier(pairs: Sequence[Pair]) -> go.Figure:
    """On a logarithmic axis of KL; what changes nothing (the reference) has no place there. What does not fit is faint;
    colours are the weights', marks the caches'."""
    shown = [pair for pair in pairs if pair.distance > 0]
    figure = blank_figure(380, showlegend=True)
    divisor, unit = byte_unit(max((pair.bytes for pair in shown), default=1))
    best = [pair for pair in shown if pair.frontier]
    figure.add_scatter(
        x=[pair.bytes / divisor for pair in best],
        y=[pair.distance for pair in best],
        mode="lines",
        line={"color": OTHER, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
        name="no pair is smaller and closer",
    )
    for kv in dict.fromkeys(kv_of(pair.candidate) for pair in shown):
        part = [pair for pair in shown if kv_of(pair.candidate) == kv]
        figure.add_scatter(
            x=[pair.bytes / divisor for pair in part],
            y=[pair.distance for pair in part],
            mode="markers",
            name="as computed" if kv is None else title(kv),
            marker={
                "size": 12,
                "color": [precision_color(weights_of(pair.candidate)) for pair in part],
                "symbol": [symbol(pair.candidate) for pair in part],
                "opacity": [1.0 if pair.fits else 0.35 for pair in part],
            },
            text=[_said(pair) for pair in part],
            hovertemplate="%{text}<extra></extra>",
            cliponaxis=False,
        )
    figure.update_xaxes(title=f"weights and KV cache ({unit})", rangemode="tozero", showgrid=True)
    figure.update_yaxes(title="KL divergence (nat)", type="log", dtick=1, exponentformat="power", showgrid=True)
    return figure


def _said(pair: Pair) -> str:
    sizes = f"{bytes_text(pair.weights)} of weights, {bytes_text(pair.cache)} of cache"
    return f"<b>{label(pair.candidate)}</b><br>{sizes}<br>{kl_text(pair)}<br>{'fits' if pair.fits else 'does not fit'}"
