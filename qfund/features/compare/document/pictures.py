"""The pictures of a report: footprint, dtypes, the distribution of differences, and damage against memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pandas as pd

from qfund.core.units import bytes_text, number_text
from qfund.drawing.axes import byte_unit
from qfund.drawing.palette import LIT, OTHER, dtype_color, ink, precision_color
from qfund.drawing.phrases import FEW
from qfund.features.compare.document.svg import CHARACTER, Drawing, cut, legend
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.ranking import Ranked, chosen, ranked
from qfund.features.compare.request.report import Report
from qfund.features.compare.tables import damage as tables
from qfund.features.compare.tables import footprints

_WIDE, _BAR, _NAME = 560, 34, 24  # pixels of a picture, of a row of bars; the most characters of a name
_NARROW = 450  # pixels: below, a picture is one of three beside each other
_BELOW, _LINE = 44, 15  # pixels of an axis with its numbers and its title; of a line of text
_OPACITY = {"weights": 1.0, "scales": 0.65, "buffers": 0.35}


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    title: str
    drawing: Drawing


def pictures(report: Report, rows: tuple[Ranked, ...], best: Ranked | None) -> tuple[Picture, ...]:
    """Those that this report has something for; of many candidates the first of the ranking, but in the last one."""
    shown = first(report, rows)
    lit = best.result.precision if best else None
    found = [memory(shown), dtypes(shown), differences(shown), damage(report, lit)]
    return tuple(picture for picture in found if picture is not None)


def pictures_of(report: Report, margin: Margin) -> tuple[Picture, ...]:
    """The same, with the candidate lit that this margin chooses."""
    rows = ranked(report, decide(report, margin), {})
    return pictures(report, rows, chosen(rows, report.reference))


def first(report: Report, rows: Sequence[Ranked]) -> Report:
    """With no more candidates than a picture has room for: the first of the ranking, in the report's order."""
    few = {row.result.precision for row in rows[:FEW]}
    return replace(report, results=tuple(result for result in report.results if result.precision in few))


def memory(shown: Report, wide: int = _WIDE) -> Picture:
    return Picture("memory", "Memory footprint", _footprints(shown, wide))


def dtypes(shown: Report, wide: int = _WIDE) -> Picture:
    return Picture("dtypes", "Parameter dtypes", _dtypes(shown, wide))


def differences(shown: Report, wide: int = _WIDE) -> Picture | None:
    """None where no output differs."""
    quantity, frame = tables.compared_quantity(shown), tables.differences(shown)
    if frame.empty:
        return None
    return Picture("differences", f"Distribution of {quantity}s", _differences(frame, quantity, wide))


def damage(report: Report, lit: str | None, wide: int = _WIDE) -> Picture | None:
    """None where no candidate has any; ``lit`` has a ring around it."""
    against = tables.memory_against_damage(report)
    if against.empty or not against["value"].max() > 0:
        return None
    return Picture("damage", "Memory against damage", _damage(against, report.reference.memory, lit, wide))


def _rows(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each precision with its label, in the frame's order."""
    for _, rows in frame.groupby("precision", sort=False):
        yield cut(str(rows["label"].iloc[0]), _NAME), rows


def _left(frame: pd.DataFrame) -> float:
    return 12 + CHARACTER * min(_NAME, int(frame["label"].str.len().max()))


def _footprints(shown: Report, wide: int) -> Drawing:
    parts, totals = footprints.parts(shown), footprints.footprints(shown).set_index("precision")
    left, widest = _left(parts), float(totals[["footprint", "predicted"]].max().max()) or 1
    drawing = Drawing("Footprint of each precision: stored bytes by part", wide, _BAR * len(totals) + 46)
    scale = (wide - left - 84) / widest
    for row, (name, rows) in enumerate(_rows(parts)):
        middle, precision = _BAR * (row + 0.5), str(rows["precision"].iloc[0])
        drawing.text(left - 8, middle, name, "end")
        x = left
        for part, count in zip(rows["part"], rows["bytes"], strict=True):
            color, opacity = precision_color(precision), _OPACITY.get(part, 0.5)
            told = f"{name}, {part}: {bytes_text(int(count))}"
            drawing.add(
                "rect", told=told, x=x, y=middle - 11, width=scale * count, height=22, fill=color, fill_opacity=opacity
            )
            x += scale * count
        total = totals.loc[precision]
        at = left + scale * total["predicted"]
        if not pd.isna(at):
            drawing.line(at, middle - 14, at, middle + 14, stroke=OTHER, stroke_width=2.5)
        drawing.text((x if pd.isna(at) else max(x, at)) + 8, middle, bytes_text(int(total["footprint"])))
    said = ("full colour weights, lighter scales, lightest buffers;", "the mark is the prediction from shapes")
    for line, text in enumerate(said):
        drawing.text(0, _BAR * len(totals) + 15 + 16 * line, text, font_size=11, fill_opacity=0.75)
    return drawing


def _dtypes(shown: Report, wide: int) -> Drawing:
    frame = footprints.dtypes(shown)
    names = list(dict.fromkeys(frame["label"]))
    left = _left(frame)
    room = wide - left - 12
    high = _BAR * len(names)
    drawing = Drawing("Share of each dtype in the stored bytes of each precision", wide, high + 70)
    for row, (name, rows) in enumerate(_rows(frame)):
        middle, x = _BAR * (row + 0.5), left
        drawing.text(left - 8, middle, name, "end")
        for dtype, share in zip(rows["dtype"], rows["share"].fillna(0), strict=True):
            color = dtype_color(str(dtype))
            told = f"{name}, {dtype}: {100 * share:.3g} %"
            drawing.add("rect", told=told, x=x, y=middle - 11, width=room * share, height=22, fill=color)
            if room * share >= 50:
                drawing.text(x + room * share / 2, middle, f"{100 * share:.3g} %", "middle", fill=ink(color))
            x += room * share
    used = legend(drawing, {str(dtype): dtype_color(str(dtype)) for dtype in frame["dtype"]}, 0, high + 4)
    drawing.text(0, high + 16 + used, "share of stored bytes", font_size=11, fill_opacity=0.75)
    return drawing


def _differences(frame: pd.DataFrame, quantity: str, wide: int) -> Drawing:
    """A stepped line for each candidate over a logarithmic axis."""
    shown = frame[frame["share"] > 2e-4]  # a long thin tail of tiny differences would take half of the width
    low, high = math.log10((frame if shown.empty else shown)["low"].min()), math.log10(frame["high"].max())
    tall = 340 if wide > _NARROW else 196
    drawing = Drawing(f"Distribution of {quantity}s", wide, tall)
    # Beside the other two a table above it is the legend.
    named = {name: _color(rows) for name, rows in _rows(frame)} if wide > _NARROW else {}
    top = 6 + (legend(drawing, named, 0, 0) if named else 0)
    left, right, bottom = 34.0, wide - 12.0, tall - float(_BELOW)
    most = 100 * float(frame["share"].max())

    def across(value: float) -> float:
        return left + (right - left) * max(0.0, (math.log10(value) - low) / (high - low))

    for decade in range(math.ceil(low), math.floor(high) + 1, 1 + int(high - low) // 9):
        drawing.grid(across(10.0**decade), top, across(10.0**decade), bottom)
        drawing.text(across(10.0**decade), bottom + 12, _power(decade), "middle")
    for step in _steps(most, 4 if wide > _NARROW else 2):
        y = bottom - (bottom - top) * step / most
        drawing.grid(left, y, right, y)
        drawing.text(left - 6, y, f"{step:g}", "end")
    for name, rows in _rows(frame):
        points = [
            f"{across(x):.1f},{bottom - (bottom - top) * 100 * share / most:.1f}"
            for begin, end, share in zip(rows["low"], rows["high"], rows["share"], strict=True)
            for x in (begin, end)
        ]
        color = _color(rows)
        drawing.add(
            "polyline", told=name, points=" ".join(points), fill=color, fill_opacity=0.1, stroke=color, stroke_width=2
        )
    drawing.text((left + right) / 2, tall - 9, f"|{quantity}|, and % of all outputs", "middle", fill_opacity=0.75)
    return drawing


def _damage(frame: pd.DataFrame, reference: int, lit: str | None, wide: int) -> Drawing:
    """Lower left is better; a loss of 0 is not on the logarithmic axis."""
    lossy = frame[frame["value"] > 0]
    ends = lossy["high"].fillna(lossy["value"]).clip(lower=lossy["value"])
    low, high = math.floor(math.log10(lossy["value"].min())), math.ceil(math.log10(1.05 * ends.max()))
    title = f"{frame['name'].iloc[0]}" + (f" ({frame['unit'].iloc[0]})" if frame["unit"].iloc[0] else "")
    drawing = Drawing(f"{title} against footprint", wide, 360)
    left, right, top, bottom = 64.0, wide - 24.0, 28.0, 360.0 - _BELOW
    most = 1.12 * max(reference, int(frame["bytes"].max()))

    def up(value: float) -> float:
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return bottom - (bottom - top) * min(1.0, place)

    drawing.text(0, 10, title)
    for decade in range(low, high + 1, 1 + (high - low) // 9):
        drawing.grid(left, up(10.0**decade), right, up(10.0**decade))
        drawing.text(left - 6, up(10.0**decade), _power(decade), "end")
    divisor, unit = byte_unit(int(most))
    for step in _steps(most / divisor, 4):
        drawing.text(left + (right - left) * step * divisor / most, bottom + 12, f"{step:g}", "middle")
    at = left + (right - left) * reference / most
    drawing.line(at, top, at, bottom, stroke=OTHER, stroke_dasharray="3 3", stroke_width=1.5)
    drawing.text(at - 4, top + 6, "reference", "end", fill_opacity=0.75)
    best = tables.frontier(lossy, "bytes")
    joined = [
        (left + (right - left) * size / most, up(value))
        for size, value in zip(best["bytes"], best["value"], strict=True)
    ]
    for (x1, y1), (x2, y2) in pairwise(joined):
        drawing.line(x1, y1, x2, y2, stroke=OTHER, stroke_dasharray="2 4", stroke_width=1.5)
    taken: list[tuple[float, float]] = []
    for row in lossy.sort_values("value").to_dict("records"):
        x, y, color = left + (right - left) * row["bytes"] / most, up(row["value"]), precision_color(row["precision"])
        if row["precision"] == lit:
            drawing.add("circle", cx=x, cy=y, r=13, fill=LIT, fill_opacity=0.35, stroke=LIT, stroke_width=2)
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            drawing.line(x, up(row["low"]), x, up(row["high"]), stroke=color, stroke_width=1.5)
        said = f"{cut(row['label'], _NAME)}: {number_text(row['value'])}"
        drawing.add("circle", told=f"{said} {row['unit']}, {bytes_text(row['bytes'])}", cx=x, cy=y, r=6, fill=color)
        if len(lossy) <= FEW or row["precision"] == lit:
            inwards = x < (left + right) / 2
            while any(abs(y - above) < _LINE and abs(x - beside) < 200 for beside, above in taken):
                y -= _LINE
            taken.append((x, y))
            drawing.text(x + (17 if inwards else -17), y, said, "start" if inwards else "end")
    drawing.text((left + right) / 2, 360 - 9, f"footprint ({unit})", "middle", fill_opacity=0.75)
    return drawing


def _steps(most: float, about: int) -> list[float]:
    """Round numbers from 0 to at most ``most``, about so many above 0."""
    rough = most / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.8 * rough)
    return [step * count for count in range(int(most / step) + 1)]


def _color(rows: pd.DataFrame) -> str:
    return precision_color(str(rows["precision"].iloc[0]))


def _power(decade: int) -> str:
    return f"10{str(decade).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
