"""Frames of ``tables`` → Plotly figures: pure and deterministic."""

import pandas as pd
import plotly.graph_objects as go

from qfund.core.units import number_text
from qfund.drawing.axes import FEW, blank_figure, literal, row_height
from qfund.drawing.palette import OTHER, PALETTE, QUIET, ink, is_variant, precision_color, translucent
from qfund.features.outputs.request.generation import NOISE, NOT_FINITE, TIED, UNUSUAL
from qfund.features.outputs.tables import NEVER

#: Outcomes in the order in which they are stacked: from no harm to much.
_OUTCOMES = {
    NEVER: ("never diverges", PALETTE[2]),
    TIED: ("at a tie", PALETTE[5]),
    NOISE: ("damage, usual error", PALETTE[4]),
    UNUSUAL: ("damage, unusual error", PALETTE[1]),
    NOT_FINITE: ("not finite", PALETTE[9]),
}
_PALE = "#DCEAF4"
_SHOWN = 26  # characters of a label on an axis


def _line(name: str) -> dict[str, object]:
    return {
        "color": precision_color(name),
        "width": 2.5,
        "shape": "hv",
        "dash": "dash" if is_variant(name) else "solid",
    }


def survival(frame: pd.DataFrame) -> go.Figure:
    """The share of prompts whose first n tokens are the reference's: one falling step line a candidate."""
    figure = blank_figure(360, hovermode="x unified")
    for name, rows in frame.groupby("precision", sort=False):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["tokens"],
            y=100 * rows["share"],
            name=label,
            mode="lines",
            line=_line(str(name)),
            hovertemplate=f"{label}: %{{y:.1f}} %<extra></extra>",
        )
    figure.update_xaxes(title="new tokens", rangemode="tozero", showgrid=False)
    figure.update_yaxes(title="prompts still the same (%)", range=[-2, 102], showgrid=True)
    return figure


def outcomes(frame: pd.DataFrame) -> go.Figure:
    """How the prompts of each candidate end: stacked from those that never diverge to damage."""
    labels = list(dict.fromkeys(frame["label"]))
    figure = blank_figure(row_height(len(labels)) + 70, barmode="stack", bargap=0.32)
    for outcome, (title, color) in _OUTCOMES.items():
        rows = frame[frame["outcome"] == outcome]
        if not rows["prompts"].sum():
            continue
        figure.add_bar(
            y=rows["label"],
            x=rows["prompts"],
            orientation="h",
            name=title,
            marker={"color": color, "line": {"width": 0}},
            text=[str(count) if count else "" for count in rows["prompts"]],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            insidetextfont={"color": ink(color)},
            customdata=rows["of"],
            hovertemplate=f"<b>%{{y}}</b><br>{title}: %{{x}} of %{{customdata}} prompts<extra></extra>",
        )
    figure.update_xaxes(title="prompts", showgrid=True)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8, showgrid=False)
    figure.update_layout(legend_traceorder="normal")
    return figure


def alternatives(frame: pd.DataFrame) -> go.Figure:
    """What both precisions expected at the first token that differs: two bars a token; a dot marks what each took."""
    pieces = frame.drop_duplicates("place")["piece"].map(_quoted).tolist()
    figure = blank_figure(90 + 46 * len(pieces), barmode="group", bargap=0.3, bargroupgap=0.06)
    for name, rows in frame.groupby("precision", sort=False):
        label = rows["label"].iloc[0]
        figure.add_bar(
            y=rows["place"],
            x=100 * rows["probability"],
            orientation="h",
            name=label,
            marker={"color": precision_color(str(name)), "line": {"width": 0}},
            text=[
                f"{number_text(100 * p)} %{'  ◀ taken' if c else ''}"
                for p, c in zip(rows["probability"], rows["chosen"], strict=True)
            ],
            textposition="outside",
            cliponaxis=False,
            customdata=[_quoted(piece) for piece in rows["piece"]],
            hovertemplate=f"<b>%{{customdata}}</b><br>{label}: %{{x:.4g}} %<extra></extra>",
        )
    widest = 100 * frame["probability"].max() if len(frame) else 1.0
    figure.update_xaxes(title="probability (%)", range=[0, 1.45 * widest], showgrid=True)
    figure.update_yaxes(
        autorange="reversed",
        tickvals=list(range(len(pieces))),
        ticktext=pieces,
        ticklabelstandoff=8,
        showgrid=False,
        zeroline=False,
    )
    figure.update_layout(legend_traceorder="normal")
    return figure


def _quoted(piece: str) -> str:
    """A token as text, its spaces kept, for Plotly, which reads some HTML."""
    return literal(f"“{_short(piece)}”").replace(" ", "\u00a0")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def class_shares(frame: pd.DataFrame, unit: str) -> go.Figure:
    """One item: for each class a mark a precision, so that small moves show; ``unit`` is ``"%"`` or empty."""
    scale = 100 if unit == "%" else 1
    names = list(dict.fromkeys(frame["class"]))
    places = {name: place for place, name in enumerate(names)}
    figure = blank_figure(120 + 44 * len(names), hovermode="closest")
    shown = list(dict.fromkeys(frame["precision"]))
    for order, (name, rows) in enumerate(frame.groupby("precision", sort=False)):
        offset = (order - (len(shown) - 1) / 2) * 0.72 / max(len(shown), 1)
        label = rows["label"].iloc[0]
        figure.add_bar(
            y=[places[row] + offset for row in rows["class"]],
            x=scale * rows["value"],
            width=0.66 / len(shown),
            orientation="h",
            name=label,
            marker={"color": precision_color(str(name)), "line": {"width": 0}},
            customdata=[literal(row) for row in rows["class"]],
            hovertemplate=f"<b>%{{customdata}}</b><br>{label}: %{{x:.4g}} {unit}<extra></extra>",
        )
    figure.update_xaxes(title="probability (%)" if unit else "score", showgrid=True)
    figure.update_yaxes(
        autorange="reversed",
        tickvals=list(range(len(names))),
        ticktext=[literal(_short(name)) for name in names],
        ticklabelstandoff=8,
        showgrid=False,
        zeroline=False,
    )
    return figure


def rankings(frame: pd.DataFrame) -> go.Figure:
    """The place of each sentence in every precision: lines that cross are places that changed."""
    labels = list(dict.fromkeys(frame["label"]))
    count = int(frame["sentence"].max())
    figure = blank_figure(90 + 34 * count, showlegend=False, hovermode="closest")
    reference = frame[frame["label"] == labels[0]].set_index("sentence")["place"]
    for number, rows in frame.groupby("sentence", sort=False):
        moved = bool((rows["place"] != reference[number]).any())
        color = PALETTE[(int(str(number)) - 1) % len(PALETTE)]
        text = literal(str(rows["text"].iloc[0]))
        figure.add_scatter(
            x=rows["label"],
            y=rows["place"],
            mode="lines+markers+text",
            line={"color": color if moved else translucent(OTHER, 0.6), "width": 3 if moved else 2},
            marker={"size": 22, "color": color},
            text=[str(number)] * len(rows),
            textposition="middle center",
            textfont={"color": ink(color), "size": 12},
            customdata=[f"{cosine:.4f}" if pd.notna(cosine) else "not finite" for cosine in rows["cosine"]],
            hovertemplate=f"<b>{number}</b> {text}<br>%{{x}}: place %{{y}}, cosine %{{customdata}}<extra></extra>",
            cliponaxis=False,
        )
    figure.update_xaxes(type="category", showgrid=False, tickfont={"color": QUIET})
    figure.update_yaxes(
        title="place, 1 is nearest to the query", autorange="reversed", dtick=max(1, count // FEW), showgrid=False
    )
    return figure


def similarity(frame: pd.DataFrame) -> go.Figure:
    """Cosine of every pair of texts in one precision, one colour from 0 (or the smallest below) to 1."""
    few = len(frame) <= 12
    figure = blank_figure(70 + max(24, 320 // max(len(frame), 1)) * len(frame))
    values = frame.to_numpy()
    figure.add_heatmap(
        x=list(frame.columns),
        y=list(frame.index),
        z=values,
        zmin=min(0.0, float(pd.DataFrame(values).min().min())) if len(frame) else 0,
        zmax=1,
        colorscale=[[0, _PALE], [1, PALETTE[0]]],  # opaque, so that Plotly chooses an ink that can be read on it
        showscale=False,
        xgap=2,
        ygap=2,
        texttemplate="%{z:.2f}" if few else None,
        hovertemplate="%{y} and %{x}: cosine %{z:.5f}<extra></extra>",
    )
    figure.update_xaxes(type="category", side="top", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticklabelstandoff=8)
    return figure
