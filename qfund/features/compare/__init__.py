"""What lower precision costs a model and what it buys: memory, dtypes, and how far outputs move."""

from qfund.core.feature import Feature, Kind, Page

FEATURE = Feature(
    "compare",
    page=Page(
        "compare",
        "Compare",
        "balance",
        "What lower precision costs, and what it buys: memory, dtypes, and how far outputs move on the same text.",
        default=True,
        shared="qfund.features.compare.view.answer.shared:shared",
    ),
    kinds=(
        Kind(
            "compare",
            request="qfund.features.compare.request.spec:Spec",
            result="qfund.features.compare.request.report:Report",
            measure="qfund.features.compare.measure.compare:compare",
            check="qfund.features.compare.request.spec:checked",
            memory="qfund.checkpoints.needs:streamed",
            schema=4,
            consistent="qfund.features.compare.request.invariants:consistent",
            renewed="qfund.features.compare.request.report:renewed",
            listed="qfund.features.compare.request.listing:Saved",
        ),
    ),
    commands={
        "compare": "compare precisions of a model",
        "show": "print a report that somebody sent: the document of --json, in words",
    },
    warm=("qfund.features.compare.figures.damage", "qfund.features.compare.tables.footprints"),
)
