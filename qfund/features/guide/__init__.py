"""How to read the numbers."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "guide",
    page=Page("guide", "Guide", "menu_book", "Learn"),
)
