"""A few large pictures for models that were trained on other pictures: shapes with a caption, always the same."""

from PIL import Image, ImageDraw

from qfund.inputs.shapes import Picture

_SIZE = 224
_COLORS = {"red": (213, 60, 50), "green": (0, 158, 115), "blue": (0, 114, 178), "yellow": (230, 190, 30)}
_SHAPES = ("circle", "square", "triangle")


def draw() -> list[Picture]:
    """One picture for every other pair of colour and shape, each shape above or left of a grey bar."""
    pairs = [(color, shape) for color in _COLORS for shape in _SHAPES][::2]
    return [_picture(color, shape, index) for index, (color, shape) in enumerate(pairs)]


def _picture(color: str, shape: str, index: int) -> Picture:
    image = Image.new("RGB", (_SIZE, _SIZE), (245, 245, 240))
    pen = ImageDraw.Draw(image)
    above = index % 2 == 0
    x, y, half = (112, 70, 45) if above else (70, 112, 45)
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        pen.ellipse(box, fill=_COLORS[color])
    elif shape == "square":
        pen.rectangle(box, fill=_COLORS[color])
    else:
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=_COLORS[color])
    pen.rectangle((40, 160, 184, 175) if above else (160, 40, 175, 184), fill=(120, 120, 120))
    return Picture(image, f"a {color} {shape} {'above' if above else 'left of'} a grey bar")
