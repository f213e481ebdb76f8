"""Number formats: bits, what they stand for, and where real weights fall."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "formats",
    page=Page("formats", "Formats", "memory_alt", "Learn"),
)
