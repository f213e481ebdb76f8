"""The nine questions of a first lesson on data types and quantisation, answered by measuring."""

from qfund.core.feature import Feature, Kind, Page

FEATURE = Feature(
    "lesson",
    page=Page(
        "questions",
        "Questions",
        "school",
        "Nine questions of a first lesson on data types and quantisation, answered by measuring the model you choose.",
        group="Learn",
    ),
    kinds=(
        Kind(
            "lesson",
            request="qfund.features.lesson.request.notebook:NotebookRequest",
            result="qfund.features.lesson.request.notebook:Notebook",
            measure="qfund.features.lesson.measure.notebook:notebook",
            check="qfund.features.lesson.request.notebook:checked",
        ),
    ),
)
