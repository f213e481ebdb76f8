"""A drawing as pixels, drawn by Pillow: for slides, and for chats, which show no SVG."""

import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from qfund.features.compare.document.svg import INK, TEXT, Drawing

#: Pixels of the picture for one of the drawing; it is drawn larger by ``_FINER`` and made smaller, for smooth edges.
SCALE, _FINER = 2, 2
_ANCHORS = {"start": "lm", "middle": "mm", "end": "rm"}


def png(drawing: Drawing) -> bytes:
    """On white."""
    return encoded(image(drawing, SCALE))


def encoded(found: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    written = io.BytesIO()
    found.save(written, "PNG", optimize=True)
    return written.getvalue()


def image(drawing: Drawing, scale: float) -> Image.Image:
    """``scale`` pixels for each of the drawing."""
    fine = scale * _FINER
    large = Image.new("RGB", (round(drawing.width * fine), round(drawing.height * fine)), "white")
    brush = ImageDraw.Draw(large, "RGBA")
    for tag, text, attributes in drawing.elements():
        _draw(brush, tag, text, dict(attributes), fine)
    return large.reduce(_FINER)


def _draw(brush: ImageDraw.ImageDraw, tag: str, text: str, given: dict[str, str], fine: float) -> None:
    """One element; ``Drawing`` has five kinds of them."""

    def at(name: str, usual: float = 0.0) -> float:
        return float(given.get(name, usual)) * fine

    fill, stroke = _color(given, "fill"), _color(given, "stroke")
    wide = max(1, round(at("stroke-width", 1)))
    if tag == "rect":
        corners = (at("x"), at("y"), at("x") + max(0.0, at("width") - 1), at("y") + at("height") - 1)
        if at("width") >= 1:
            brush.rounded_rectangle(corners, at("rx"), fill)
    elif tag == "circle":
        x, y, r = at("cx"), at("cy"), at("r")
        brush.ellipse((x - r, y - r, x + r, y + r), fill, stroke if "stroke" in given else None, wide)
    elif tag == "line":
        ends = at("x1"), at("y1"), at("x2"), at("y2")
        for piece in _dashes(ends, [float(part) * fine for part in given.get("stroke-dasharray", "").split()]):
            brush.line(piece, stroke, wide)
    elif tag == "polyline":
        points = [tuple(float(part) * fine for part in pair.split(",")) for pair in given["points"].split()]
        brush.polygon(points, fill)
        brush.line(points, stroke, wide, "curve")
    elif tag == "text":
        size = float(given.get("font-size", TEXT)) * fine
        anchor = _ANCHORS[given.get("text-anchor", "start")]
        brush.text((at("x"), at("y")), text, fill or INK, font(size, "font-weight" in given), anchor)


def _color(given: dict[str, str], of: str) -> tuple[int, int, int, int]:
    """Of ``fill`` or ``stroke``, with its opacity."""
    name = given.get(of, "currentColor")
    opacity = round(255 * float(given.get(f"{of}-opacity", 1)))
    return (*ImageColor.getrgb(INK if name == "currentColor" else name)[:3], opacity)


def _dashes(ends: tuple[float, float, float, float], lengths: list[float]) -> list[tuple[float, float, float, float]]:
    """A line, or the pieces of it that are seen where it is dashed (one dash, one gap)."""
    x1, y1, x2, y2 = ends
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    if not lengths or not length:
        return [ends]
    x, y = (x2 - x1) / length, (y2 - y1) / length
    starts = [step * sum(lengths) for step in range(int(length / sum(lengths)) + 1)]
    spans = [(start, min(length, start + lengths[0])) for start in starts]
    return [(x1 + x * begin, y1 + y * begin, x1 + x * end, y1 + y * end) for begin, end in spans]


@cache
def _typeface() -> Path | None:
    """The sans-serif that Streamlit's pages are set in, which has every sign that is drawn here."""
    found = find_spec("streamlit")
    folder = Path(found.origin).parent / "static" if found and found.origin else Path()
    return next((path for path in folder.rglob("SourceSans*.woff2") if "Italic" not in path.name), None)


@cache
def font(size: float, bold: bool = False) -> FreeTypeFont | ImageFont.ImageFont:
    """So many pixels high; Pillow's own where the other cannot be read."""
    if (path := _typeface()) is not None:
        try:
            face = ImageFont.truetype(path, size)
            face.set_variation_by_axes([600 if bold else 400])
        except OSError:  # of another format than this FreeType reads
            pass
        else:
            return face
    return ImageFont.load_default(size)
