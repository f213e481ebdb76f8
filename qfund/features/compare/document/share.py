"""The picture that a chat shows for a link to a report: its title, the answer and the footprints."""

from textwrap import wrap

from PIL import Image

from qfund.drawing.palette import PALETTE
from qfund.features.compare.document.pictures import Picture
from qfund.features.compare.document.png import encoded, image
from qfund.features.compare.document.svg import Drawing, cut

#: What chats lay out for, in pixels.
WIDTH, HEIGHT = 1200, 630
_LEFT, _BOTTOM = 60, 30
#: Size of a line, characters that it holds, and how many lines.
_TITLE, _SENTENCE = (46, 46, 2), (31, 72, 4)


def share(title: str, sentence: str, footprints: Picture) -> bytes:
    """A PNG."""
    drawing = Drawing(title, WIDTH, HEIGHT)
    drawing.add("rect", x=0, y=0, width=WIDTH, height=14, fill=PALETTE[0])
    y = _lines(drawing, 66, title, _TITLE, font_weight="600")
    y = _lines(drawing, y + 8, sentence, _SENTENCE)
    drawing.text(WIDTH - _LEFT, HEIGHT - 34, "qfund", "end", font_size=26, fill_opacity=0.6)
    card = image(drawing, 1)
    room = HEIGHT - _BOTTOM - y
    below = footprints.drawing
    scale = min((WIDTH - 2 * _LEFT - 120) / below.width, room / below.height)
    if scale > 0.5:  # smaller, its names could not be read
        small: Image.Image = image(below, scale)
        card.paste(small, (_LEFT, HEIGHT - _BOTTOM - small.height))
    return encoded(card)


def _lines(drawing: Drawing, y: float, text: str, form: tuple[int, int, int], **attributes: str) -> float:
    """Where the next one begins."""
    size, characters, most = form
    lines = wrap(text, characters) or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], cut(" ".join(lines[most - 1 :]), characters)]
    for line in lines:
        drawing.text(_LEFT, y, line, font_size=size, **attributes)
        y += 1.25 * size
    return y
