"""Earlier comparisons."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "saved",
    page=Page(
        "saved",
        "Saved",
        "inventory_2",
        "Measured on this server, newest first. Opening one computes nothing.",
    ),
)
