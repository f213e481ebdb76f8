"""Number formats: bits, what they stand for, and where real weights fall."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "formats",
    page=Page(
        "formats",
        "Formats",
        "memory_alt",
        "The same weight in 64 bits, 16, 8 or 4: which numbers exist, and which one a number becomes.",
        group="Learn",
    ),
)
