"""Colours: one for each precision and one for each dtype, the same in every figure."""

import zlib

from qfund.precisions.caches import kv_of, weights_of
from qfund.precisions.files import is_file
from qfund.precisions.precision import CAST, FAMILIES, GGUF, MEANING
from qfund.precisions.table import PRECISIONS

#: Ten colours that stay apart for colour-blind eyes; ``.streamlit/config.toml`` names the same (a test compares them).
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#AA3377",
    "#44AA99",
    "#999933",
    "#8B5A2B",
)
OTHER = "#8A8F98"
LIT = "#747B86"  # around what is chosen: no precision has it
GOOD, BAD, OPEN = "#4F5D75", "#B3263E", "#747B86"  # verdicts, which signs and words tell first; no precision has them
CACHE = "#7A5FC0"  # of keys and values; no precision has it, and no verdict
QUIET = "#747B86"  # text that reads on white and on the dark theme


def _shades() -> dict[str, str]:
    """Name of a precision → colour. What everybody compares first has the palette's first colours; the others follow in
    the table's order, the second and the third time round in another shade; what else is called BF16 or FP16 is muted,
    and GGUF files are muted shades. A variant (on another base, or with inputs rounded too) has the colour of its row
    and is told by an open mark or a dashed line."""
    first = ("fp32", "bf16", "fp16", "int8")
    rows = [row for row in PRECISIONS.values() if row.variant_of is None and row.family not in (MEANING, GGUF)]
    rows.sort(key=lambda row: (row.name not in first, row.family == CAST))
    ordered = [*first, *(row.name for row in rows if row.name not in first)]
    shades = {name: _shade(PALETTE[place % 10], place // 10) for place, name in enumerate(ordered)}
    meanings = [row.name for row in PRECISIONS.values() if row.family == MEANING]
    shades |= {name: _muted(PALETTE[(place + len(first)) % 10]) for place, name in enumerate(meanings)}
    files = [row.name for row in PRECISIONS.values() if row.family == GGUF and row.variant_of is None]
    shades |= {name: _muted(_shade(PALETTE[place % 10], 1 + place // 10)) for place, name in enumerate(files)}
    return shades | {row.name: shades[row.variant_of] for row in PRECISIONS.values() if row.variant_of}


def _shade(color: str, round_: int) -> str:
    """The colour itself, then halfway to white (a dark one) or to black (a light one), then the other way."""
    if not round_:
        return color
    lighter = (_luminance(color) < 0.2) == (round_ == 1)
    return "#" + "".join(f"{round(0.55 * part + 115 if lighter else 0.7 * part):02X}" for part in _rgb(color))


def _muted(color: str) -> str:
    """Halfway to grey."""
    return _between(color, OTHER)


def _between(one: str, other: str) -> str:
    return "#" + "".join(f"{sum(parts) // 2:02X}" for parts in zip(_rgb(one), _rgb(other), strict=True))


def precision_color(name: str) -> str:
    """The same in every figure; see ``_shades``. With a rounded cache it is that of the weights, with a mark of
    its own."""
    name = weights_of(name)
    if is_file(name):
        return _FILES[zlib.crc32(name.encode()) % len(_FILES)]
    return _SHADES.get(name, OTHER)


def is_variant(name: str) -> bool:
    """Whether it is drawn with an open mark or a dashed line: another row's variant."""
    return name in PRECISIONS and PRECISIONS[name].variant_of is not None


#: Of what has a rounded cache.
_MARKS = ("square", "triangle-up", "triangle-down", "star", "cross", "x", "pentagon", "hexagon")


def symbol(name: str) -> str:
    """Of a precision's mark in a figure."""
    if (kv := kv_of(name)) is not None:
        return _MARKS[zlib.crc32(kv.encode()) % len(_MARKS)]
    return "diamond" if is_file(name) else "circle-open" if is_variant(name) else "circle"


def dash(name: str) -> str:
    """Of a precision's line in a figure."""
    return "dot" if kv_of(name) else "dash" if is_variant(name) else "solid"


#: A dtype that is not called like its precision.
_DTYPES = {"float8_e4m3fn": "fp8_e4m3", "float8_e5m2": "fp8_e5m2", "float4_e2m1": "mxfp4"}


def dtype_color(dtype: str) -> str:
    """The colour of the precision that stores its weights in this dtype; integers of the precision of that name."""
    for row in PRECISIONS.values():
        if (row.quantizer is None and row.dtype == dtype) or row.name == _DTYPES.get(dtype, dtype):
            return precision_color(row.name)
    return OTHER


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def translucent(color: str, alpha: float) -> str:
    return f"rgba({','.join(map(str, _rgb(color)))},{alpha})"


def ink(color: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    return "black" if contrast(color, "#000000") > contrast(color, "#FFFFFF") else "white"


def contrast(one: str, other: str) -> float:
    """Of two colours after WCAG: 1 where they are equal, 21 of black and white."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    """Relative luminance after WCAG."""
    parts = [part / 255 for part in _rgb(color)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


_SHADES = _shades()
#: Of quantised files, by their names: no precision has one of them.
_FILES = tuple(_between(color, PALETTE[(place + 2) % 10]) for place, color in enumerate(PALETTE))


def family_color(family: str) -> str:
    return PALETTE[list(FAMILIES).index(family) % len(PALETTE)] if family in FAMILIES else OTHER
