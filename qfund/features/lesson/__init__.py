"""The nine questions of a first lesson on data types and quantisation, answered by measuring."""

from qfund.core.feature import Feature, Kind, Page

FEATURE = Feature(
    "lesson",
    page=Page("questions", "Questions", "school", "Learn"),
    kinds=(
        Kind(
            "lesson",
            request="qfund.features.lesson.request.lesson:LessonRequest",
            result="qfund.features.lesson.request.lesson:Lesson",
            measure="qfund.features.lesson.measure:lesson",
            check="qfund.features.lesson.request.lesson:checked",
        ),
    ),
)
