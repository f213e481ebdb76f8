"""Pictures of one or two coloured shapes with their captions: what ``shapes-blip`` is trained on and asked about.

``held_out`` are pictures of combinations that its training never drew. The same number gives the same picture anywhere.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

#: Width and height in pixels.
SIZE = 64
COLORS = {
    "red": (220, 40, 40),
    "orange": (240, 140, 35),
    "yellow": (235, 215, 50),
    "green": (40, 170, 60),
    "blue": (50, 85, 220),
    "purple": (150, 60, 180),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "cross")
RELATIONS = ("above", "left of")
#: Every word of a caption.
WORDS = ("a", "an", *COLORS, *SHAPES, *(word for relation in RELATIONS for word in relation.split()))

_HELD_OUT_SHARE = 0.1
_HELD_OUT_SEED = 2
_GROUNDS = ((128, 128, 128), (100, 110, 120), (150, 140, 130), (120, 135, 110))
_GROUND_JITTER = 12
_COLOR_JITTER = 26
_RADIUS = (6.5, 12.0)
_NOISE = (5.0, 22.0)  # standard deviation of a channel of 0 … 255, one for each picture
_FINER = 2  # drawn larger and scaled down, for soft edges


@dataclass(frozen=True, slots=True)
class Picture:
    image: Image.Image
    caption: str


@dataclass(frozen=True, slots=True)
class Thing:
    color: str
    shape: str

    def __str__(self) -> str:
        return f"{'an' if self.color[0] in 'aeiou' else 'a'} {self.color} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """``first`` alone, or ``first`` above or left of ``second``."""

    first: Thing
    relation: str | None = None
    second: Thing | None = None

    @property
    def caption(self) -> str:
        return f"{self.first} {self.relation} {self.second}" if self.second else f"{self.first}"


@cache
def things() -> tuple[Thing, ...]:
    return tuple(Thing(color, shape) for color, shape in product(COLORS, SHAPES))


@cache
def split() -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """Every scene of two different things: those for training, and a tenth held out, by a hash of the caption."""
    scenes = [Scene(a, relation, b) for a, relation, b in product(things(), RELATIONS, things()) if a != b]
    scenes.sort(key=lambda scene: hashlib.sha256(scene.caption.encode()).digest())
    held = round(len(scenes) * _HELD_OUT_SHARE)
    return tuple(scenes[held:]), tuple(scenes[:held])


def held_out(numbers: Iterable[int]) -> list[Picture]:
    """The held-out pictures of these numbers (from 0): each is of the next held-out scene, all of them in turn."""
    scenes = split()[1]
    return [draw(scenes[n % len(scenes)], np.random.default_rng([_HELD_OUT_SEED, n])) for n in numbers]


def draw(scene: Scene, chance: np.random.Generator) -> Picture:
    """A picture of the scene: places, sizes, colours, background and noise by chance."""
    ground = _jittered(_GROUNDS[chance.integers(len(_GROUNDS))], _GROUND_JITTER, chance)
    image = Image.new("RGB", (SIZE * _FINER, SIZE * _FINER), ground)
    pen = ImageDraw.Draw(image)
    radii = chance.uniform(*_RADIUS, 2)
    if scene.second is None:
        place = chance.uniform(radii[0] + 1, SIZE - radii[0] - 1, 2)
        _stamp(pen, scene.first, place, radii[0], chance)
    else:
        # Along the axis of the relation the two keep to their halves; across it both are near the middle.
        near = chance.uniform(radii[0] + 1, SIZE / 2 - 0.6 * radii[0])
        far = chance.uniform(SIZE / 2 + 0.6 * radii[1], SIZE - radii[1] - 1)
        across = SIZE / 2 + chance.uniform(-9, 9, 2)
        places = np.array([[near, across[0]], [far, across[1]]])
        if scene.relation == "above":
            places = places[:, ::-1]
        _stamp(pen, scene.second, places[1], radii[1], chance)
        _stamp(pen, scene.first, places[0], radii[0], chance)
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR), dtype=np.float64)
    noisy = pixels + chance.normal(0.0, chance.uniform(*_NOISE), pixels.shape)
    return Picture(Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)), scene.caption)


def _jittered(color: tuple[int, int, int], by: int, chance: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (color + chance.integers(-by, by + 1, 3)).clip(0, 255).tolist()
    return red, green, blue


def _stamp(
    pen: ImageDraw.ImageDraw, thing: Thing, place: np.ndarray, radius: float, chance: np.random.Generator
) -> None:
    color = _jittered(COLORS[thing.color], _COLOR_JITTER, chance)
    (x, y), r = (place * _FINER).tolist(), float(radius) * _FINER
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    elif thing.shape == "square":
        half = 0.88 * r  # about a circle's area
        pen.rectangle((x - half, y - half, x + half, y + half), fill=color)
    elif thing.shape == "triangle":
        pen.polygon([(x, y - r), (x - r, y + 0.85 * r), (x + r, y + 0.85 * r)], fill=color)
    else:
        arm = 0.36 * r
        pen.rectangle((x - r, y - arm, x + r, y + arm), fill=color)
        pen.rectangle((x - arm, y - r, x + arm, y + r), fill=color)
