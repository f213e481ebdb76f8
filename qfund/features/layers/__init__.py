"""Which modules pay for the bits, and a recipe: a precision for each module under a budget."""

from qfund.core.feature import Feature, Kind, Page

_AT = "qfund.features.layers"

FEATURE = Feature(
    "layers",
    page=Page(
        "layers",
        "Layers",
        "stacks",
        "Which modules of a model pay for the bits, and a precision for each of them under a budget.",
        group="More",
    ),
    kinds=(
        Kind(
            "layers",
            request=f"{_AT}.request.modules:LayersRequest",
            result=f"{_AT}.request.modules:Layers",
            measure=f"{_AT}.measure.injected:layers",
            memory="qfund.checkpoints.needs:streamed",
            check=f"{_AT}.request.asked:checked",
        ),
        Kind(
            "swaps",
            request=f"{_AT}.request.swaps:SwapsRequest",
            result=f"{_AT}.request.swaps:Swaps",
            measure=f"{_AT}.measure.swapped:swaps",
            memory="qfund.checkpoints.needs:streamed",
            check=f"{_AT}.request.swaps:checked",
            consistent=f"{_AT}.request.swaps:consistent",
        ),
        Kind(
            "recipe",
            request=f"{_AT}.request.recipe:RecipeRequest",
            result=f"{_AT}.request.recipe:Recipe",
            measure=f"{_AT}.measure.searched:recipe",
            memory="qfund.checkpoints.needs:streamed",
            check=f"{_AT}.request.recipe:checked",
            consistent=f"{_AT}.request.recipe:consistent",
            schema=2,  # before, bits per weight counted what two modules share twice
        ),
    ),
    commands={
        "layers": "say which modules of a model pay for the bits, in every precision",
        "recipe": "choose a precision for each module under a budget, and measure the mix",
    },
)
