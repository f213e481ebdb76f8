"""Names beside marks, where they cover neither each other nor a mark."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import pandas as pd

from qfund.features.compare.tables.damage import frontier


def pixels(values: "pd.Series[float]", range_: Sequence[float], length: int) -> "pd.Series[float]":
    """Where values stand on a logarithmic axis of so many pixels; the range is in powers of ten, as Plotly's."""
    low, high = range_
    return length * (values.map(math.log10) - low) / (high - low)


CHARACTER, _LINE, _MARK = 6.6, 14.0, 6.0  # pixels: of a label's letter and line, and from a mark's middle to its rim
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
Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top


def name_places(
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
    best = list(frontier(frame, size)["precision"])
    line = _dots([marks[name] for name in best])
    taken: list[Box] = []
    named = {}
    for name in (*best, *sorted(set(names) - set(best), key=lambda name: (*marks[name], name))):
        others = [*taken, *(rim for other, rim in rims.items() if other != name)]
        boxes = {place: label_box(place, marks[name], CHARACTER * len(labels[name])) for place in _PLACES}
        free = [
            place
            for place, box in boxes.items()
            if box[0] >= 0 and box[1] >= -_LINE and box[2] <= room[0] and box[3] <= room[1] + _LINE
            if not any(overlap(box, other) for other in others)
        ]
        # Rather beside the line through the frontier than on it.
        if free:
            named[name] = min(free, key=lambda place: any(overlap(boxes[place], dot) for dot in line))
            taken.append(boxes[named[name]])
    return named


def _dots(points: Sequence[tuple[float, float]]) -> list[Box]:
    """A line through points as boxes without extent, near enough to each other that no label slips through."""
    return [
        (across, up, across, up)
        for (x0, y0), (x1, y1) in pairwise(points)
        for step in range(101)
        for across, up in [(x0 + (x1 - x0) * step / 100, y0 + (y1 - y0) * step / 100)]
    ]


def label_box(place: str, mark: tuple[float, float], wide: float) -> Box:
    widths, right, heights, up = _PLACES[place]
    left, bottom = mark[0] + widths * wide + right, mark[1] + heights * _LINE + up
    return left, bottom, left + wide, bottom + _LINE


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
