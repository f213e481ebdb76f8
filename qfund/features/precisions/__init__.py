"""Every precision, what its name stands for, and what it did to the example model."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "precisions",
    page=Page(
        "precisions",
        "Precisions",
        "stacked_line_chart",
        "Fewer bits, more damage: where the line runs, and what every name stands for.",
    ),
)
