"""Linear quantisation by hand: a matrix, a scale, a zero-point, and what they make of it."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "quantizer",
    page=Page(
        "quantiser",
        "Quantiser",
        "grid_on",
        "A weight becomes a small integer by one division and one rounding. Drag the scale, and watch what it costs.",
        group="Learn",
    ),
)
