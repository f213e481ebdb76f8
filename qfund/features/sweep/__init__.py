"""Many models in many precisions on many texts: one list, measured as far as it is not, and ranked."""

from qfund.core.feature import Feature, Page

FEATURE = Feature(
    "sweep",
    page=Page(
        "sweep",
        "Sweep",
        "leaderboard",
        "All comparisons that are there, ranked: the smallest precision of each model within your margin. A list of "
        "models is measured as far as it is not.",
        group="More",
    ),
    commands={"sweep": "compare precisions of many models, and rank what was found"},
)
