"""One colour for one thing, the same as in the theme."""

import tomllib
from pathlib import Path

import pytest

from qfund.drawing import palette

CONFIG = Path(__file__).parents[2] / ".streamlit/config.toml"


def test_the_palette_is_the_themes() -> None:
    theme = tomllib.loads(CONFIG.read_text("utf-8"))["theme"]
    assert tuple(theme["chartCategoricalColors"]) == palette.PALETTE
    assert len(set(palette.PALETTE)) == 10  # fewer than ten break Plotly's colours in Streamlit 1.67


def test_every_colour_of_the_palette_is_seen_on_white_and_on_the_dark_theme() -> None:
    theme = tomllib.loads(CONFIG.read_text("utf-8"))["theme"]
    for background in (theme[mode]["backgroundColor"] for mode in ("light", "dark")):
        for color in palette.PALETTE:
            assert palette.contrast(color, background) >= 2.2, (color, background)


def test_contrast_is_that_of_wcag() -> None:
    assert palette.contrast("#000000", "#FFFFFF") == palette.contrast("#FFFFFF", "#000000") == pytest.approx(21.0)
    assert palette.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)  # just fails


def test_a_dtype_has_the_color_of_the_precision_that_stores_it() -> None:
    assert palette.dtype_color("bfloat16") == palette.precision_color("bf16")
    assert palette.dtype_color("float32") == palette.precision_color("fp32")
    assert palette.dtype_color("int8") == palette.precision_color("int8")
    assert palette.dtype_color("int64") == palette.OTHER
