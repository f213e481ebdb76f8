"""How to read the numbers."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "guide",
    page=Page(
        "guide",
        "Guide",
        "menu_book",
        "What each precision and each metric means, and how to read the numbers.",
        group="Learn",
    ),
)
