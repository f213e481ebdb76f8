"""A few large pictures for models that were trained on other pictures: shapes with a caption, always the same."""

from PIL import Image, ImageDraw

from qfund.shapes import Picture

_SIZE = 224
_COLOURS = {"red": (213, 60, 50), "green": (0, 158, 115), "blue": (0, 114, 178), "yellow": (230, 190, 30)}
_SHAPES = ("circle", "square", "triangle")


def draw() -> list[Picture]:
    """One picture for every other pair of colour and shape, each shape above or left of a grey bar."""
    pairs = [(colour, shape) for colour in _COLOURS for shape in _SHAPES][::2]
    return [_picture(colour, shape, index) for index, (colour, shape) in enumerate(pairs)]


def _picture(colour: str, shape: str, index: int) -> Picture:
    image = Image.new("RGB", (_SIZE, _SIZE), (245, 245, 240))
    pen = ImageDraw.Draw(image)
    above = index % 2 == 0
    x, y, half = (112, 70, 45) if above else (70, 112, 45)
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        pen.ellipse(box, fill=_COLOURS[colour])
    elif shape == "square":
        pen.rectangle(box, fill=_COLOURS[colour])
    else:
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=_COLOURS[colour])
    pen.rectangle((40, 160, 184, 175) if above else (160, 40, 175, 184), fill=(120, 120, 120))
    return Picture(image, f"a {colour} {shape} {'above' if above else 'left of'} a grey bar")
