"""Frames (``qfund.tables``) → Plotly figures. Pure and deterministic: the same frame gives the same figure.

Text, grid and background take Streamlit's theme, so a figure reads in the light and in the dark; colours that carry
meaning are set here, one for each precision and one for each dtype, the same in every figure.
"""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any, TypeAlias

import pandas as pd
import plotly.graph_objects as go

from qfund.precisions import CAST, FAMILIES, MEANING, PRECISIONS
from qfund.units import bytes_text, number_text

#: Ten colours that stay apart for colour-blind eyes; ``.streamlit/config.toml`` names the same (a test compares them).
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#44AA99",
    "#999933",
    "#661100",
)
OTHER = "#8A8F98"
QUIET = "#747B86"  # text that reads on white and on the dark theme
#: More candidates are drawn smaller, and their distributions as a heat map.
FEW = 8
#: A treemap with more boxes shows its first levels; a click opens the next.
MANY_BOXES = 300

#: For st.plotly_chart: no tool bar to cover a small figure, and a finger scrolls the page instead of zooming.
CONFIG: dict[str, Any] = {"displayModeBar": False, "displaylogo": False, "scrollZoom": False}

_PATTERNS = {"weights": "", "scales": "/", "buffers": "x"}


def _shades() -> dict[str, str]:
    """Name of a precision → colour. What everybody compares first has the palette's first colours; the others follow in
    the table's order, the second and the third time round in another shade; what else is called BF16 or FP16 is muted.
    A variant on another base has the colour of its row and is told by an open mark or a dashed line."""
    first = ("fp32", "bf16", "fp16", "int8")
    rows = [row for row in PRECISIONS.values() if row.variant_of is None and row.family != MEANING]
    rows.sort(key=lambda row: (row.name not in first, row.family == CAST))
    ordered = [*first, *(row.name for row in rows if row.name not in first)]
    shades = {name: _shade(PALETTE[place % 10], place // 10) for place, name in enumerate(ordered)}
    meanings = [row.name for row in PRECISIONS.values() if row.family == MEANING]
    shades |= {name: _muted(PALETTE[(place + len(first)) % 10]) for place, name in enumerate(meanings)}
    return shades | {row.name: shades[row.variant_of] for row in PRECISIONS.values() if row.variant_of}


def _shade(colour: str, round_: int) -> str:
    """The colour itself, then halfway to white (a dark one) or to black (a light one), then the other way."""
    if not round_:
        return colour
    lighter = (_luminance(colour) < 0.2) == (round_ == 1)
    return "#" + "".join(f"{round(0.55 * part + 115 if lighter else 0.7 * part):02X}" for part in _rgb(colour))


def _muted(colour: str) -> str:
    """Halfway to grey."""
    return "#" + "".join(f"{(one + two) // 2:02X}" for one, two in zip(_rgb(colour), _rgb(OTHER), strict=True))


def precision_colour(name: str) -> str:
    """The same in every figure; see ``_shades``."""
    return _SHADES.get(name, OTHER)


def is_variant(name: str) -> bool:
    """Whether it is drawn with an open mark or a dashed line: the row of that colour, on another base."""
    return name in PRECISIONS and PRECISIONS[name].variant_of is not None


#: A dtype that is not called like its precision.
_DTYPES = {"float8_e4m3fn": "fp8_e4m3", "float8_e5m2": "fp8_e5m2", "float4_e2m1": "mxfp4"}


def dtype_colour(dtype: str) -> str:
    """The colour of the precision that stores its weights in this dtype; integers of the precision of that name."""
    for row in PRECISIONS.values():
        if (row.quantizer is None and row.dtype == dtype) or row.name == _DTYPES.get(dtype, dtype):
            return precision_colour(row.name)
    return OTHER


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def _translucent(colour: str, alpha: float) -> str:
    return f"rgba({','.join(map(str, _rgb(colour)))},{alpha})"


def _literal(name: str) -> str:
    """A tensor's name as text: Plotly reads some HTML, and names come from checkpoints."""
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _ink(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    return "black" if _luminance(colour) > 0.179 else "white"


def _luminance(colour: str) -> float:
    """Relative luminance after WCAG."""
    parts = [part / 255 for part in _rgb(colour)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


_SHADES = _shades()


def _row_height(rows: int) -> int:
    """Height of a figure with one bar a row: bars become thinner where there are many."""
    return 86 + rows * (46 if rows <= FEW else 28)


def _figure(height: int, **layout: Any) -> go.Figure:
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


def differences(frame: pd.DataFrame, quantity: str = "logit difference") -> go.Figure:
    """The distribution of |difference| over a logarithmic axis: a stepped line for each candidate, or, where there are
    many, a row of a heat map for each."""
    if frame["precision"].nunique() > FEW:
        return _heat_map(frame, quantity)
    figure = _figure(340, hovermode="closest")
    for name, rows in frame.groupby("precision", sort=False):
        label = rows["label"].iloc[0]
        figure.add_scatter(
            x=rows["centre"],
            y=100 * rows["share"],
            name=label,
            mode="lines",
            line={
                "color": precision_colour(str(name)),
                "width": 2,
                "shape": "hvh",
                "dash": "dash" if is_variant(str(name)) else "solid",
            },
            fill="tozeroy",
            fillcolor=_translucent(precision_colour(str(name)), 0.12),
            customdata=rows[["low", "high"]],
            hovertemplate=(
                f"<b>{label}</b><br>%{{customdata[0]:.2e}} to %{{customdata[1]:.2e}}<br>%{{y:.2f}} %<extra></extra>"
            ),
        )
    _axis_of_differences(figure, frame, quantity)
    figure.update_yaxes(title="share of all outputs (%)", rangemode="tozero")
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
    figure = _figure(60 + 20 * len(labels))
    figure.add_heatmap(
        x=list(grid.columns),
        y=labels,
        z=grid.to_numpy(),
        colorscale=[[0, _translucent(PALETTE[0], 0)], [1, PALETTE[0]]],
        showscale=False,
        ygap=3,
        hovertemplate="<b>%{y}</b><br>about %{x:.2e}<br>%{z:.2f} % of all outputs<extra></extra>",
    )
    _axis_of_differences(figure, frame, quantity)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8, showgrid=False, dtick=1)
    return figure


def memory_against_damage(frame: pd.DataFrame, reference_bytes: int, floor: float | None = None) -> go.Figure:
    """Footprint against the loss of fidelity: lower left is better. Dotted lines are the reference's footprint, and the
    frontier: those to which no other is both smaller and closer. A band reaches up to the noise ``floor``.

    The axis is logarithmic and spans whole decades; a loss of 0 is not on it, unless there is no other.
    """
    divisor, unit = _byte_unit(max(reference_bytes, int(frame["bytes"].max())))
    widest = max(reference_bytes, int(frame["bytes"].max())) / divisor
    few = len(frame) <= FEW
    height = 340 if few else min(720, 140 + 20 * len(frame))
    figure = _figure(height, showlegend=not few)
    title = frame["name"].iloc[0] + (f" ({frame['unit'].iloc[0]})" if frame["unit"].iloc[0] else "")
    lossy = frame[frame["value"] > 0]
    # Towards the middle, so that no label leaves the picture or crosses the reference's line.
    named = {
        row["precision"]: "middle right" if row["bytes"] / divisor < 0.55 * widest else "middle left"
        for row in frame.to_dict("records")
    }
    decades = [0, 1]
    if not lossy.empty:
        smallest, largest = 0.8 * lossy["value"].min(), 1.25 * lossy["value"].max()
        decades = [math.floor(math.log10(smallest)), math.ceil(math.log10(largest))]
        if floor and floor_is_near(frame, floor):
            decades[0] = min(decades[0], math.floor(math.log10(floor)))
            figure.add_hrect(y0=10.0 ** (decades[0] - 1), y1=floor, line={"width": 0}, fillcolor=OTHER, opacity=0.18)
    right = widest * 1.12
    drawn = frame if lossy.empty else lossy
    told = [
        f"{bytes_text(row['bytes'])}<br>{row['name']}: {number_text(row['value'])} {row['unit']}"
        for row in drawn.to_dict("records")
    ]
    drawn = drawn.assign(hover=told)
    best = _frontier(drawn, "bytes")
    if len(best) > 1 and not lossy.empty:
        figure.add_scatter(
            x=best["bytes"] / divisor,
            y=best["value"],
            mode="lines",
            name="nothing is both smaller and closer",
            line={"color": OTHER, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
        )
    wide, high = 400 * widest / right, height - 140  # pixels between the axes
    across = wide / widest * drawn["bytes"] / divisor
    up = 0 * drawn["value"] if lossy.empty else _pixels(drawn["value"], decades, high)
    places = _named(drawn, "bytes", across, up, (wide, high))
    if not few:
        _by_family(figure, drawn, drawn["bytes"] / divisor, places, 10)
    boxes = [
        _label_box(named[name], (x, y), _CHARACTER * len(text))
        for name, text, x, y in zip(drawn["precision"], drawn["label"], across, up, strict=True)
    ]
    if any(_overlap(one, other) for one, other in combinations(boxes, 2)):
        named |= places
    for row in drawn.to_dict("records") if few else ():
        figure.add_scatter(
            x=[row["bytes"] / divisor],
            y=[row["value"]],
            error_y=_interval(row),
            mode="markers+text",
            marker=_mark(row["precision"], 14),
            text=[row["label"]],
            textposition=named[row["precision"]],
            hovertemplate=f"<b>{row['label']}</b><br>{row['hover']}<extra></extra>",
            cliponaxis=False,
        )
    figure.add_vline(
        x=reference_bytes / divisor,
        line={"dash": "dot", "color": OTHER, "width": 1.5},
        annotation={"text": "reference", "textangle": -90, "xanchor": "left", "xshift": 3, "font": {"color": OTHER}},
    )
    figure.update_xaxes(title=f"footprint ({unit})", range=[0, right], showgrid=True)
    if lossy.empty:
        figure.update_yaxes(title=title, type="linear", range=[-0.1, 1], tickvals=[0])
        return figure
    figure.update_yaxes(
        title=title, type="log", range=decades, exponentformat="power", dtick=1 + (decades[1] - decades[0]) // 9
    )
    return figure


def floor_is_near(frame: pd.DataFrame, floor: float) -> bool:
    """Whether a noise floor is drawn: one that is far below all candidates would take the picture."""
    lossy = frame["value"][frame["value"] > 0]
    return len(lossy) > 0 and floor > float(lossy.min()) / 300


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


def _mark(precision: str, size: int) -> dict[str, Any]:
    colour = precision_colour(precision)
    return {
        "color": colour,
        "size": size,
        "symbol": f"circle{'-open' * is_variant(precision)}",
        "line": {"width": 2, "color": colour},
    }


def _frontier(frame: pd.DataFrame, size: str) -> pd.DataFrame:
    """The rows to which no other is both smaller and closer to the reference, the smallest first."""
    ordered = frame.sort_values([size, "value"], kind="stable")
    return ordered[ordered["value"] < ordered["value"].cummin().shift(fill_value=math.inf)]


def _pixels(values: "pd.Series[float]", range_: Sequence[float], length: int) -> "pd.Series[float]":
    """Where values stand on a logarithmic axis of so many pixels; the range is in powers of ten, as Plotly's."""
    low, high = range_
    return length * (values.map(math.log10) - low) / (high - low)


_CHARACTER, _LINE, _MARK = 6.6, 14.0, 6.0  # pixels: of a label's letter and line, and from a mark's middle to its rim
#: Where a label can stand beside its mark, the first that is free is taken: Plotly's name, and the label's left and
#: lower edge in pixels from the middle of the mark, in widths of the label and pixels, heights and pixels.
_PLACES = {
    "bottom left": (-1, -5, -1, -_MARK),
    "top right": (0, 5, 0, _MARK),
    "middle left": (-1, -9, -0.5, 0),
    "middle right": (0, 9, -0.5, 0),
    "bottom center": (-0.5, 0, -1, -7),
    "top center": (-0.5, 0, 0, 7),
    "top left": (-1, -5, 0, _MARK),
    "bottom right": (0, 5, -1, -_MARK),
}
_Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top


def _named(
    frame: pd.DataFrame, size: str, x: "pd.Series[float]", y: "pd.Series[float]", room: tuple[float, float]
) -> dict[str, str]:
    """Precision → where its label stands, for as many as there is room for; ``x``, ``y`` and ``room`` (width and height
    of the picture) are in pixels. No label stands on a mark, on another label, or beyond the picture.

    Those of the frontier come first, and then the others from the smallest on.
    """
    names = list(frame["precision"])
    marks = dict(zip(names, zip(x, y, strict=True), strict=True))
    rims = {name: (across - _MARK, up - _MARK, across + _MARK, up + _MARK) for name, (across, up) in marks.items()}
    labels = dict(zip(names, frame["label"], strict=True))
    best = list(_frontier(frame, size)["precision"])
    line = _dots([marks[name] for name in best])
    taken: list[_Box] = []
    named = {}
    for name in (*best, *sorted(set(names) - set(best), key=lambda name: (*marks[name], name))):
        others = [*taken, *(rim for other, rim in rims.items() if other != name)]
        boxes = {place: _label_box(place, marks[name], _CHARACTER * len(labels[name])) for place in _PLACES}
        free = [
            place
            for place, box in boxes.items()
            if box[0] >= 0 and box[1] >= -_LINE and box[2] <= room[0] and box[3] <= room[1] + _LINE
            if not any(_overlap(box, other) for other in others)
        ]
        # Rather beside the line through the frontier than on it.
        if free:
            named[name] = min(free, key=lambda place: any(_overlap(boxes[place], dot) for dot in line))
            taken.append(boxes[named[name]])
    return named


def _dots(points: Sequence[tuple[float, float]]) -> list[_Box]:
    """A line through points as boxes without extent, near enough to each other that no label slips through."""
    return [
        (across, up, across, up)
        for (x0, y0), (x1, y1) in pairwise(points)
        for step in range(101)
        for across, up in [(x0 + (x1 - x0) * step / 100, y0 + (y1 - y0) * step / 100)]
    ]


def _label_box(place: str, mark: tuple[float, float], wide: float) -> _Box:
    widths, right, heights, up = _PLACES[place]
    left, bottom = mark[0] + widths * wide + right, mark[1] + heights * _LINE + up
    return left, bottom, left + wide, bottom + _LINE


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _by_family(figure: go.Figure, frame: pd.DataFrame, x: "pd.Series[float]", named: dict[str, str], size: int) -> None:
    """A mark for each row of a frame at ``x`` and its ``value``, in the colour of its family; those that are ``named``
    with their label. The frame's ``hover`` says more."""
    frame = frame.assign(x=x, family=[PRECISIONS[name].family for name in frame["precision"]])
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
                "color": family_colour(family),
                "size": size,
                "opacity": 0.85,
                "symbol": ["circle-open" if is_variant(name) else "circle" for name in rows["precision"]],
                "line": {"width": 2, "color": family_colour(family)},
            },
            text=[label if name in named else "" for name, label in zip(rows["precision"], rows["label"], strict=True)],
            textposition=[named.get(name, "top right") for name in rows["precision"]],
            customdata=rows[["label", "hover"]],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
            cliponaxis=False,
        )


def bits_against_damage(frame: pd.DataFrame) -> go.Figure:
    """Bits of a weight against KL divergence, one colour a family; a line through those that nothing beats on both."""
    figure = _figure(480, hovermode="closest")
    frame = frame.reset_index(drop=True)
    best = _frontier(frame, "bits")
    wide = [math.log10(0.8 * frame["bits"].min()), math.log10(1.25 * frame["bits"].max())]
    high = [math.log10(0.8 * frame["value"].min()), math.log10(1.25 * frame["value"].max())]
    # A narrower picture than a wide screen's, so that labels keep apart where a window is smaller.
    named = _named(frame, "bits", _pixels(frame["bits"], wide, 800), _pixels(frame["value"], high, 360), (800, 360))
    figure.add_scatter(
        x=best["bits"],
        y=best["value"],
        mode="lines",
        name="nothing is both smaller and closer",
        line={"color": OTHER, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )
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


def family_colour(family: str) -> str:
    return PALETTE[list(FAMILIES).index(family) % len(PALETTE)] if family in FAMILIES else OTHER


def latency(frame: pd.DataFrame) -> go.Figure:
    """The time of a forward as a ratio to the reference's: left of the line at 1 is faster."""
    shown = frame[frame["ratio"].notna()]
    names = [f"{row['label']} · {row['library']}" for row in shown.to_dict("records")]
    figure = _figure(_row_height(len(shown)), bargap=0.35, showlegend=False)
    figure.add_bar(
        y=names,
        x=shown["ratio"],
        orientation="h",
        error_x={"array": shown["se"].fillna(0.0), "thickness": 1.5, "width": 4, "color": QUIET},
        marker={
            # qfund's own time of a quantised model is no format's time: it stands back.
            "color": [
                OTHER if library == "qfund" and PRECISIONS[name].quantizer else precision_colour(name)
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


def _byte_unit(largest: int) -> tuple[float, str]:
    """A divisor and its unit for an axis that reaches ``largest`` bytes."""
    text_unit = bytes_text(largest).split()[1]
    return 1024.0 ** ("B", "KiB", "MiB", "GiB", "TiB").index(text_unit), text_unit


def footprints(parts: pd.DataFrame, totals: pd.DataFrame) -> go.Figure:
    """Stored bytes of each precision, stacked by part, with the prediction from shapes as a mark beside them."""
    divisor, unit = _byte_unit(int(totals[["footprint", "predicted"]].max().max()))
    figure = _figure(_row_height(len(totals)), barmode="stack", bargap=0.35)
    for part, rows in parts.groupby("part", sort=False):
        if not rows["bytes"].sum():
            continue
        figure.add_bar(
            y=rows["label"],
            x=rows["bytes"] / divisor,
            orientation="h",
            name=str(part),
            marker={
                "color": [precision_colour(name) for name in rows["precision"]],
                "pattern": _pattern(str(part)),
                "line": {"width": 0},
            },
            showlegend=False,
            customdata=[bytes_text(count) for count in rows["bytes"]],
            hovertemplate=f"<b>%{{y}}</b><br>{part}: %{{customdata}}<extra></extra>",
        )
        if _PATTERNS.get(str(part)) != "":  # an empty bar that explains the pattern
            figure.add_bar(
                y=[totals["label"].iloc[0]],
                x=[0],
                orientation="h",
                name=str(part),
                marker={
                    "color": OTHER,
                    "pattern": _pattern(str(part)),
                },
                hoverinfo="skip",
            )
    figure.add_scatter(
        y=totals["label"],
        x=totals["predicted"] / divisor,
        mode="markers",
        name="predicted from shapes",
        marker={"symbol": "line-ns", "size": 22 if len(totals) <= FEW else 14, "line": {"width": 2.5, "color": OTHER}},
        customdata=["not predicted" if pd.isna(count) else bytes_text(count) for count in totals["predicted"]],
        hovertemplate="<b>%{y}</b><br>predicted: %{customdata}<extra></extra>",
    )
    for row in totals.to_dict("records"):
        figure.add_annotation(
            y=row["label"],
            x=max(row["footprint"], row["predicted"]) / divisor,  # the footprint where nothing was predicted
            text=f" {bytes_text(row['footprint'])}",
            showarrow=False,
            xanchor="left",
            xshift=6,
        )
    widest = float(totals[["footprint", "predicted"]].max().max()) / divisor
    figure.update_xaxes(title=f"footprint ({unit})", range=[0, widest * 1.18], showgrid=True)
    figure.update_yaxes(autorange="reversed", ticklabelstandoff=8)
    return figure


def _pattern(part: str) -> dict[str, Any]:
    return {"shape": _PATTERNS.get(part, "."), "fgcolor": "white", "size": 6, "fillmode": "overlay"}


def dtype_shares(frame: pd.DataFrame) -> go.Figure:
    """Which dtypes a precision's bytes are in, each bar adding up to 100 %."""
    labels = list(dict.fromkeys(frame["label"]))
    figure = _figure(_row_height(len(labels)), barmode="stack", bargap=0.35)
    for dtype, rows in frame.groupby("dtype", sort=False):
        figure.add_bar(
            y=rows["label"],
            x=100 * rows["share"],
            orientation="h",
            name=str(dtype),
            marker={"color": dtype_colour(str(dtype)), "line": {"width": 0}},
            text=[f"{100 * share:.3g} %" if share >= 0.12 and len(labels) <= FEW else "" for share in rows["share"]],
            textposition="inside",
            insidetextanchor="middle",
            textfont={"color": _ink(dtype_colour(str(dtype)))},
            customdata=[
                [bytes_text(count), f"{parameters:,}"]
                for count, parameters in zip(rows["bytes"], rows["parameters"], strict=True)
            ],
            hovertemplate=(
                f"<b>%{{y}}</b><br>{dtype}: %{{customdata[0]}} (%{{x:.3g}} %)<br>"
                "%{customdata[1]} parameters<extra></extra>"
            ),
        )
    figure.update_xaxes(title="share of stored bytes (%)", range=[0, 100.5], dtick=25, showgrid=True)
    figure.update_layout(legend_traceorder="normal")
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1], ticklabelstandoff=8)
    return figure


def modules(frame: pd.DataFrame) -> go.Figure:
    """A treemap of stored bytes by module path, each module in the colour of the dtype that holds most of it."""
    figure = _figure(460, uniformtext={"minsize": 9, "mode": "hide"})
    figure.add_treemap(
        ids=frame["id"],
        labels=[_literal(label) for label in frame["label"]],
        parents=frame["parent"],
        values=frame["bytes"],
        branchvalues="total",
        sort=False,
        marker={
            "colors": [dtype_colour(dtype) if dtype else "rgba(128,128,128,0.08)" for dtype in frame["dtype"]],
            "line": {"width": 1},
            "pad": {"t": 20, "l": 3, "r": 3, "b": 3},
            "cornerradius": 3,
        },
        maxdepth=-1 if len(frame) <= MANY_BOXES else 4,
        textfont={"color": [_ink(dtype_colour(dtype)) if dtype else QUIET for dtype in frame["dtype"]]},
        tiling={"pad": 1},
        customdata=[
            [_literal(name), bytes_text(count), dtypes or "several modules"]
            for name, count, dtypes in zip(frame["name"], frame["bytes"], frame["dtypes"], strict=True)
        ],
        texttemplate="%{label}<br>%{customdata[1]}",
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>%{customdata[1]}, %{percentRoot:.1%} of all<br>%{customdata[2]}<extra></extra>"
        ),
        pathbar={"visible": True, "thickness": 22},
    )
    return figure
