"""The pictures of a report: footprint, dtypes, the distribution of differences, and damage against memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from qfund.core.units import bytes_text, number_text
from qfund.drawing.palette import LIT, OTHER, dtype_color, ink, precision_color
from qfund.drawing.phrases import FEW
from qfund.features.compare.document.svg import CHARACTER, Drawing, cut, legend
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.ranking import Ranked, chosen, ranked
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import damage, footprints

_WIDE, _BAR, _NAME = 560, 34, 24  # pixels of a picture, of a row of bars; the most characters of a name
_BELOW = 44  # pixels of an axis with its numbers and its title
_OPACITY = {"weights": 1.0, "scales": 0.65, "buffers": 0.35}


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    title: str
    drawing: Drawing


def pictures(report: Report, rows: tuple[Ranked, ...], best: Ranked | None) -> tuple[Picture, ...]:
    """Those that this report has something for; of many candidates the first of the ranking, but in the last one."""
    few = {row.result.precision for row in rows[:FEW]}
    shown = replace(report, results=tuple(result for result in report.results if result.precision in few))
    return tuple(_pictures(report, shown, best))


def pictures_of(report: Report, margin: Margin) -> tuple[Picture, ...]:
    """The same, with the candidate lit that this margin chooses."""
    rows = ranked(report, decide(report, margin), {})
    return pictures(report, rows, chosen(rows, report.reference))


def _pictures(report: Report, shown: Report, best: Ranked | None) -> Iterator[Picture]:
    yield Picture("memory", "Memory footprint", _footprints(shown))
    yield Picture("dtypes", "Parameter dtypes", _dtypes(shown))
    quantity, frame = damage.compared_quantity(shown), damage.differences(shown)
    if not frame.empty:
        yield Picture("differences", f"Distribution of {quantity}s", _differences(frame, quantity))
    against = damage.memory_against_damage(report)
    if not against.empty and against["value"].max() > 0:
        lit = best.result.precision if best else None
        yield Picture("damage", "Memory and damage", _damage(against, report.reference.footprint_bytes, lit))


def _rows(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each precision with its label, in the frame's order."""
    for _, rows in frame.groupby("precision", sort=False):
        yield cut(str(rows["label"].iloc[0]), _NAME), rows


def _left(frame: pd.DataFrame) -> float:
    return 12 + CHARACTER * min(_NAME, int(frame["label"].str.len().max()))


def _footprints(shown: Report) -> Drawing:
    parts, totals = footprints.parts(shown), footprints.footprints(shown).set_index("precision")
    left, widest = _left(parts), float(totals[["footprint", "predicted"]].max().max()) or 1
    drawing = Drawing("Footprint of each precision: stored bytes by part", _WIDE, _BAR * len(totals) + 30)
    scale = (_WIDE - left - 90) / widest
    for row, (name, rows) in enumerate(_rows(parts)):
        middle, precision = _BAR * (row + 0.5), str(rows["precision"].iloc[0])
        drawing.text(left - 8, middle, name, "end")
        x = left
        for part, count in zip(rows["part"], rows["bytes"], strict=True):
            wide = scale * count
            color, opacity = precision_color(precision), _OPACITY.get(part, 0.5)
            drawing.add("rect", x=x, y=middle - 11, width=wide, height=22, fill=color, fill_opacity=opacity)
            x += wide
        total = totals.loc[precision]
        at = left + scale * total["predicted"]
        if not pd.isna(at):
            drawing.line(at, middle - 14, at, middle + 14, stroke=OTHER, stroke_width=2.5)
        drawing.text((x if pd.isna(at) else max(x, at)) + 8, middle, bytes_text(int(total["footprint"])))
    said = "full colour weights, lighter scales, lightest buffers; the mark is the prediction from shapes"
    drawing.text(0, _BAR * len(totals) + 15, said, font_size=11, fill_opacity=0.75)
    return drawing


def _dtypes(shown: Report) -> Drawing:
    frame = footprints.dtypes(shown)
    names = list(dict.fromkeys(frame["label"]))
    left = _left(frame)
    wide = _WIDE - left - 12
    high = _BAR * len(names)
    drawing = Drawing("Share of each dtype in the stored bytes of each precision", _WIDE, high + 70)
    for row, (name, rows) in enumerate(_rows(frame)):
        middle, x = _BAR * (row + 0.5), left
        drawing.text(left - 8, middle, name, "end")
        for dtype, share in zip(rows["dtype"], rows["share"].fillna(0), strict=True):
            color = dtype_color(str(dtype))
            drawing.add("rect", x=x, y=middle - 11, width=wide * share, height=22, fill=color)
            if share >= 0.12:
                drawing.text(x + wide * share / 2, middle, f"{100 * share:.3g} %", "middle", fill=ink(color))
            x += wide * share
    used = legend(drawing, {str(dtype): dtype_color(str(dtype)) for dtype in frame["dtype"]}, 0, high + 4)
    drawing.text(0, high + 16 + used, "share of stored bytes", font_size=11, fill_opacity=0.75)
    return drawing


def _differences(frame: pd.DataFrame, quantity: str) -> Drawing:
    """A stepped line for each candidate over a logarithmic axis."""
    shown = frame[frame["share"] > 2e-4]  # a long thin tail of tiny differences would take half of the width
    low, high = math.log10((frame if shown.empty else shown)["low"].min()), math.log10(frame["high"].max())
    drawing = Drawing(f"Distribution of {quantity}s", _WIDE, 340)
    top = 6 + legend(drawing, {name: _color(rows) for name, rows in _rows(frame)}, 0, 0)
    left, right, bottom = 44.0, _WIDE - 12.0, 340.0 - _BELOW
    most = 100 * float(frame["share"].max())

    def across(value: float) -> float:
        return left + (right - left) * max(0.0, (math.log10(value) - low) / (high - low))

    for decade in range(math.ceil(low), math.floor(high) + 1):
        drawing.grid(across(10.0**decade), top, across(10.0**decade), bottom)
        drawing.text(across(10.0**decade), bottom + 12, _power(decade), "middle")
    for step in range(5):
        y = bottom - (bottom - top) * step / 4
        drawing.grid(left, y, right, y)
        drawing.text(left - 6, y, f"{most * step / 4:.2g}", "end")
    for _, rows in _rows(frame):
        points = [
            f"{across(x):.1f},{bottom - (bottom - top) * 100 * share / most:.1f}"
            for begin, end, share in zip(rows["low"], rows["high"], rows["share"], strict=True)
            for x in (begin, end)
        ]
        color = _color(rows)
        drawing.add("polyline", points=" ".join(points), fill=color, fill_opacity=0.1, stroke=color, stroke_width=2)
    drawing.text((left + right) / 2, 340 - 9, f"|{quantity}|, and the share of all outputs in %", "middle")
    return drawing


def _damage(frame: pd.DataFrame, reference: int, lit: str | None) -> Drawing:
    """Lower left is better; a loss of 0 is not on the logarithmic axis."""
    lossy = frame[frame["value"] > 0]
    ends = lossy["high"].fillna(lossy["value"]).clip(lower=lossy["value"])
    low, high = math.floor(math.log10(lossy["value"].min())), math.ceil(math.log10(1.05 * ends.max()))
    title = f"{frame['name'].iloc[0]}" + (f" ({frame['unit'].iloc[0]})" if frame["unit"].iloc[0] else "")
    drawing = Drawing(f"{title} against footprint", _WIDE, 360)
    left, right, top, bottom = 64.0, _WIDE - 24.0, 28.0, 360.0 - _BELOW
    most = 1.12 * max(reference, int(frame["bytes"].max()))

    def up(value: float) -> float:
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return bottom - (bottom - top) * min(1.0, place)

    drawing.text(0, 10, title)
    for decade in range(low, high + 1, 1 + (high - low) // 9):
        drawing.grid(left, up(10.0**decade), right, up(10.0**decade))
        drawing.text(left - 6, up(10.0**decade), _power(decade), "end")
    for step in range(5):
        drawing.text(left + (right - left) * step / 4, bottom + 12, bytes_text(int(most * step / 4)), "middle")
    at = left + (right - left) * reference / most
    drawing.line(at, top, at, bottom, stroke=OTHER, stroke_dasharray="3 3", stroke_width=1.5)
    drawing.text(at - 4, top + 6, "reference", "end", fill_opacity=0.75)
    for row in lossy.to_dict("records"):
        x, y, color = left + (right - left) * row["bytes"] / most, up(row["value"]), precision_color(row["precision"])
        if row["precision"] == lit:
            drawing.add("circle", cx=x, cy=y, r=13, fill=LIT, fill_opacity=0.35, stroke=LIT, stroke_width=2)
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            drawing.line(x, up(row["low"]), x, up(row["high"]), stroke=color, stroke_width=1.5)
        drawing.add("circle", cx=x, cy=y, r=6, fill=color)
        if len(lossy) <= FEW or row["precision"] == lit:
            inwards = x < (left + right) / 2
            said = f"{cut(row['label'], _NAME)}: {number_text(row['value'])}"
            drawing.text(x + (17 if inwards else -17), y, said, "start" if inwards else "end")
    drawing.text((left + right) / 2, 360 - 9, "footprint", "middle")
    return drawing


def _color(rows: pd.DataFrame) -> str:
    return precision_color(str(rows["precision"].iloc[0]))


def _power(decade: int) -> str:
    return f"10{str(decade).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
