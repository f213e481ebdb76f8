"""What a model says in several precisions: texts, classes, embeddings, side by side."""

from qfund.core.feature import Feature, Kind, Page

FEATURE = Feature(
    "outputs",
    page=Page(
        "outputs",
        "Outputs",
        "compare_arrows",
        "The same prompts, texts, sentences and pictures in every precision: what comes out, and where it parts.",
        former={"captions": "view=captions"},
    ),
    kinds=(
        Kind(
            "generate",
            request="qfund.features.outputs.request.generation:GenerationRequest",
            result="qfund.features.outputs.request.generation:Generation",
            measure="qfund.features.outputs.measure.generate:generate",
            check="qfund.features.outputs.request.generation:checked",
        ),
        Kind(
            "classify",
            request="qfund.features.outputs.request.classes:ClassesRequest",
            result="qfund.features.outputs.request.classes:Classes",
            measure="qfund.features.outputs.measure.classify:classify",
            check="qfund.features.outputs.request.classes:checked",
        ),
        Kind(
            "embed",
            request="qfund.features.outputs.request.embeddings:EmbeddingsRequest",
            result="qfund.features.outputs.request.embeddings:Embeddings",
            measure="qfund.features.outputs.measure.embed:embed",
            check="qfund.features.outputs.request.embeddings:checked",
        ),
    ),
    commands={
        "generate": "let every precision go on with the same prompts, token by token",
        "classify": "class probabilities of texts or pictures in every precision",
        "embed": "embeddings of sentences in every precision, ranked by a query",
    },
)
