"""Frames of ``tables`` → Plotly figures: pure and deterministic.

What is exact or measured is solid; what is an estimate is light and hatched, in every figure.
"""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import bytes_text
from qfund.drawing.axes import FEW, blank_figure, byte_unit, row_height
from qfund.drawing.palette import CACHE, OTHER, PALETTE, QUIET, precision_color, translucent
from qfund.features.memory.request.sizing import ESTIMATE

_USES = {
    "weights": PALETTE[0],
    "scales": PALETTE[5],
    "buffers": PALETTE[7],
    "KV cache": CACHE,
    "state": PALETTE[3],
    "activations": PALETTE[4],
    "runtime": OTHER,
}
_MORE, _LESS = PALETTE[4], PALETTE[2]
_PHASES = {"reading": PALETTE[5], "copying": PALETTE[3], "casting": PALETTE[4], "quantising": PALETTE[2]}
_BAND = 0.3  # opacity of a phase


def _fill(color: str, how: str) -> dict[str, Any]:
    """Solid, or light and hatched for an estimate."""
    if how != ESTIMATE:
        return {"color": color, "line": {"width": 0}}
    pattern = {"shape": "/", "fgcolor": color, "size": 7, "solidity": 0.25, "fillmode": "replace"}
    return {"color": translucent(color, 0.3), "line": {"width": 1, "color": color}, "pattern": pattern}


def fits(frame: pd.DataFrame, budget: int, named: str | None = None) -> go.Figure:
    """What each precision takes, stacked by part, with the budget as a line; ``named`` is the one to choose."""
    totals = frame.groupby("label", sort=False)["bytes"].sum()
    widest = int(totals.max())
    near = budget <= 2 * widest
    divisor, unit = byte_unit(max(widest, budget if near else 0))
    figure = blank_figure(row_height(len(totals)) + 70, barmode="stack", bargap=0.38)
    for part, rows in frame.groupby("part", sort=False):
        if not rows["bytes"].sum():
            continue
        how = rows["how"].iloc[0]
        figure.add_bar(
            y=rows["label"],
            x=rows["bytes"] / divisor,
            orientation="h",
            name=f"{part} (estimate)" if how == ESTIMATE else str(part),
            marker=_fill(_USES.get(str(part), OTHER), how),
            customdata=[bytes_text(count) for count in rows["bytes"]],
            hovertemplate=f"<b>%{{y}}</b><br>{part}, {how}: %{{customdata}}<extra></extra>",
        )
    if near:
        figure.add_vline(x=budget / divisor, line={"dash": "dash", "color": QUIET, "width": 2})
    best = {str(row["label"]) for row in frame.to_dict("records") if row["precision"] == named}
    # The total stands with the name, where it stays when somebody hides a part.
    names = []
    for label, total in totals.items():
        verdict = "<b>best</b>" if label in best else "fits" if total <= budget else "<b>too much</b>"
        names.append(_two_lines(f"<b>{label}</b>" if label in best else str(label), f"{bytes_text(total)}, {verdict}"))
    end = 1.04 * max(widest, budget) / divisor if near else None
    where = (
        f"dashed: the budget, {bytes_text(budget)}"
        if near
        else f"the budget, {bytes_text(budget)}, is far to the right"
    )
    figure.update_xaxes(title=f"{unit} · {where}", rangemode="tozero", showgrid=True, range=[0, end] if near else None)
    figure.update_yaxes(
        autorange="reversed", ticklabelstandoff=8, tickvals=list(totals.index), ticktext=names, showgrid=False
    )
    figure.update_layout(legend_traceorder="normal")
    return figure


def sizes(frame: pd.DataFrame, stored: int) -> go.Figure:
    """Predicted bytes as bars; estimate, measured footprint and peaks as marks on them; the file as a line."""
    columns = ["estimate", "predicted", "measured", "need", "rss", "inference"]
    widest = max(stored, int(frame[columns].max().max()))
    divisor, unit = byte_unit(widest)
    figure = blank_figure(row_height(len(frame)) + 70, bargap=0.4)
    figure.add_bar(
        y=frame["label"],
        x=frame["predicted"] / divisor,
        orientation="h",
        name="predicted",
        marker={"color": [precision_color(name) for name in frame["precision"]], "line": {"width": 0}},
        showlegend=False,
        customdata=[bytes_text(count) for count in frame["predicted"]],
        hovertemplate="<b>%{y}</b><br>predicted, exact: %{customdata}<extra></extra>",
    )
    marks = {
        "estimate": ("from headers (estimate)", "diamond-open", QUIET),
        "measured": ("measured, counted", "line-ns", QUIET),
        "need": ("load peak (need)", "triangle-right", PALETTE[1]),
        "rss": ("resident peak (RSS)", "triangle-right-open", PALETTE[1]),
        "inference": ("inference peak (need)", "circle", PALETTE[4]),
    }
    for column, (name, symbol, color) in marks.items():
        rows = frame[frame[column].notna()]
        if rows.empty:
            continue
        tall = symbol == "line-ns"
        figure.add_scatter(
            y=rows["label"],
            x=rows[column] / divisor,
            mode="markers",
            name=name,
            marker={
                "symbol": symbol,
                "size": (26 if len(frame) <= FEW else 15) if tall else 11,
                "color": color,
                "line": {"width": 3 if tall else 2, "color": color},
            },
            customdata=[bytes_text(count) for count in rows[column]],
            hovertemplate=f"<b>%{{y}}</b><br>{name}: %{{customdata}}<extra></extra>",
            cliponaxis=False,
        )
    figure.add_vline(x=stored / divisor, line={"dash": "dot", "color": QUIET, "width": 1.5})
    figure.update_xaxes(
        title=f"{unit} · dotted: stored on disk, {bytes_text(stored)}",
        range=[0, 1.06 * widest / divisor],
        showgrid=True,
    )
    figure.update_yaxes(
        autorange="reversed",
        ticklabelstandoff=8,
        tickvals=list(frame["label"]),
        ticktext=[
            _two_lines(label, bytes_text(count))
            for label, count in zip(frame["label"], frame["predicted"], strict=True)
        ],
        showgrid=False,
    )
    return figure


def _two_lines(name: str, size: str) -> str:
    return f"{name}<br><span style='font-size:11px'>{size}</span>"


def steps(frame: pd.DataFrame, precision: str) -> go.Figure:
    """A waterfall from the file to the peak: sizes as whole bars, differences as the pieces between them."""
    widest = int(frame[["start", "end"]].max().max())
    divisor, unit = byte_unit(widest)
    figure = blank_figure(70 + 30 * len(frame), bargap=0.3, showlegend=False)
    for place, row in enumerate(frame.to_dict("records")):
        total, delta = row["kind"] == "total", row["end"] - row["start"]
        color = precision_color(precision) if total else _MORE if delta > 0 else _LESS
        color = OTHER if total and not place else color
        sign = "" if total else "+" if delta > 0 else "−"
        figure.add_bar(
            y=[place],
            x=[delta / divisor],
            base=[row["start"] / divisor],
            orientation="h",
            marker=_fill(color, row["how"]),
            hovertemplate=f"<b>{row['label']}</b><br>{sign}{bytes_text(abs(delta))}, {row['how']}<extra></extra>",
        )
        figure.add_annotation(
            y=place,
            x=max(row["start"], row["end"]) / divisor,
            text=f"{'<b>' * total}{sign}{bytes_text(abs(delta))}{'</b>' * total}",
            showarrow=False,
            xanchor="left",
            xshift=5,
        )
    names = [f"<b>{row['label']}</b>" if row["kind"] == "total" else row["label"] for row in frame.to_dict("records")]
    figure.update_xaxes(title=unit, range=[0, 1.35 * widest / divisor], showgrid=True)
    figure.update_yaxes(
        autorange="reversed",
        ticklabelstandoff=8,
        tickvals=list(range(len(names))),
        ticktext=[_wrapped(name) for name in names],
        showgrid=False,
    )
    return figure


def _wrapped(name: str) -> str:
    """A long name in two lines, broken at its comma or before *of a forward*, or a telephone has no room for bars."""
    for mark, end, begin in ((", ", ",", ""), (" of a forward ", "", "of a forward ")):
        head, found, rest = name.partition(mark)
        if found and len(name) > 30:
            return f"{head}{end}<br>{begin}{rest}"
    return name


def load(curve: pd.DataFrame, phases: pd.DataFrame, weights: int, highest: int) -> go.Figure:
    """One way to load, over time: the need filled, resident bytes as a thin line, its phases as bands.

    ``weights`` are those in fp32, a dotted line; ``highest`` is the largest value of all ways that stand beside it.
    """
    divisor, unit = byte_unit(highest)
    top = 1.3 * highest / divisor
    figure = blank_figure(250, hovermode="x unified", showlegend=False)
    busy = phases[phases["phase"].isin(_PHASES)]
    for band in busy.to_dict("records"):
        figure.add_vrect(
            x0=band["start"],
            x1=band["end"],
            fillcolor=translucent(_PHASES[band["phase"]], _BAND),
            line={"width": 0},
            layer="below",
        )
    for column, name, line in (
        ("rss", "resident (RSS)", {"color": QUIET, "width": 1.2, "dash": "dot"}),
        ("need", "need", {"color": PALETTE[0], "width": 2.5}),
    ):
        figure.add_scatter(
            x=curve["seconds"],
            y=curve[column] / divisor,
            mode="lines",
            name=name,
            line=line,
            fill="tozeroy" if column == "need" else None,
            fillcolor=translucent(PALETTE[0], 0.18) if column == "need" else None,
            customdata=[bytes_text(count) for count in curve[column]],
            hovertemplate=f"{name} %{{customdata}}<extra></extra>",
        )
    peak = curve.loc[curve["need"].idxmax()]
    figure.add_scatter(
        x=[peak["seconds"]],
        y=[peak["need"] / divisor],
        mode="markers",
        marker={"color": PALETTE[0], "size": 9},
        hoverinfo="skip",
        cliponaxis=False,
    )
    figure.add_annotation(
        x=peak["seconds"],
        y=peak["need"] / divisor,
        text=f"<b>{peak['need'] / weights:.2f} W</b>",
        showarrow=False,
        yshift=14,
        xanchor="left",
    )
    figure.add_hline(y=weights / divisor, line={"dash": "dot", "color": OTHER, "width": 1.5})
    # What comes after the load is only waiting.
    end = 1.35 * float(busy["end"].max()) if len(busy) else float(curve["seconds"].max())
    figure.update_xaxes(title="seconds", showgrid=False, range=[0, min(end, float(curve["seconds"].max()))])
    figure.update_yaxes(title=unit, range=[0, top], showgrid=True, nticks=5)
    return figure


def load_colors() -> dict[str, str]:
    """What ``load`` draws → its colour: lines, and phases as bands."""
    bands = {phase: translucent(color, _BAND) for phase, color in _PHASES.items()}
    return {"need": PALETTE[0], "resident (RSS)": QUIET, **bands}
