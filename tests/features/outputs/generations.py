"""A ``Generation`` made by hand: four prompts, of which two part in int4 and none in bf16."""

from qfund.core.environment import Environment
from qfund.features.outputs.request.classes import SCHEMA as CLASSES_SCHEMA
from qfund.features.outputs.request.classes import SOFTMAX, Classes, ClassesRequest, Item
from qfund.features.outputs.request.embeddings import SCHEMA as EMBEDDINGS_SCHEMA
from qfund.features.outputs.request.embeddings import Embedded, Embeddings, EmbeddingsRequest
from qfund.features.outputs.request.generation import (
    SCHEMA,
    Candidate,
    Continuation,
    Divergence,
    Example,
    Generation,
    GenerationRequest,
)

CREATED = "2026-01-02T03:04:05+00:00"
HOSTILE = "<img src=https://elsewhere.example/x>![x](https://elsewhere.example/y)"
ENVIRONMENT = Environment(
    {"torch": "2.13.0", "transformers": "5.23.0"}, "3.11", "Linux", "cpu", "a CPU, 2 cores", 2, "sha256:abc"
)


def written(*tokens: int, ended: str = "limit") -> Continuation:
    pieces = tuple(
        "" if ended == "end" and place == len(tokens) - 1 else f" w{token}" for place, token in enumerate(tokens)
    )
    return Continuation(tokens, pieces, (0.5,) * len(tokens), ended)


def parted(step: int, gap: float | None, noise: float | None = 0.2) -> Divergence:
    moved = None if gap is None else gap + 0.1
    candidate = () if gap is None else (0.2, 0.5, 0.1)
    return Divergence(
        step, (" a", " b", "<b>"), (0.4, 0.3, 0.1), candidate, (0, None if gap is None else 1), gap, gap, moved, noise
    )


def example(
    names: tuple[str, ...], prompt: str, reference: Continuation, other: Continuation, row: Divergence | None
) -> Example:
    same, parts = Candidate(reference, None, 0.01), Candidate(other, row, 0.2)
    return Example(prompt, 3, 4, reference, {name: parts if name == "int4" else same for name in names})


def make_generation(request: GenerationRequest | None = None) -> Generation:
    """int4: the same; a tie at the third of four tokens; damage at the first, the reference ends early; the same."""
    request = request or GenerationRequest("dummy", precisions=("bf16", "int4"))
    names, same = request.candidates, written(1, 2, 3, 4)
    examples = (
        example(names, "def f():\nReturn the", same, same, None),
        example(names, "def g():\nReturn the", same, written(1, 2, 9, 4), parted(2, 0.1)),
        example(names, "class A:\nA", written(1, 0, ended="end"), written(7, 2, 3, 4), parted(0, 1.5)),
        example(names, HOSTILE, same, same, None),
    )
    return Generation(
        SCHEMA, request, CREATED, ENVIRONMENT, "LlamaForCausalLM", "causal language model", examples, ("A note.",), 1.5
    )


def make_classes(request: ClassesRequest | None = None) -> Classes:
    """int4 flips the first of two texts, at a tie."""
    request = request or ClassesRequest("dummy", precisions=("bf16", "int4"), texts=("one", HOSTILE))
    names = ("fp32", *request.precisions)
    first = Item(
        "one",
        ("good", "bad"),
        {name: (0.49, 0.51) if name == "int4" else (0.52, 0.48) for name in names},
        {name: ("bad",) if name == "int4" else ("good",) for name in names},
        0.08,
        {name: 0.03 if name == "int4" else 0.0 for name in request.precisions},
    )
    second = Item(
        HOSTILE,
        ("bad", "good"),
        dict.fromkeys(names, (0.9, 0.1)),
        dict.fromkeys(names, ("bad",)),
        2.2,
        dict.fromkeys(request.precisions, 0.01),
    )
    return Classes(
        CLASSES_SCHEMA,
        request,
        CREATED,
        ENVIRONMENT,
        "BertForSequenceClassification",
        "sequence classifier",
        "text",
        SOFTMAX,
        2,
        (first, second),
    )


def make_embeddings(request: EmbeddingsRequest | None = None) -> Embeddings:
    """Three sentences, the first two of which change places in int4."""
    request = request or EmbeddingsRequest("dummy", precisions=("bf16", "int4"), query="q", texts=("a", "b", HOSTILE))

    def embedded(*scores: float, cosine: float | None = None) -> Embedded:
        rows = (
            (1.0, *scores),
            *((score, *(1.0 if i == j else 0.5 for j in range(3))) for i, score in enumerate(scores)),
        )
        return Embedded(rows, () if cosine is None else (cosine,) * 4)

    return Embeddings(
        EMBEDDINGS_SCHEMA,
        request,
        CREATED,
        ENVIRONMENT,
        "LlamaForCausalLM",
        "causal language model",
        "hidden states after the last layer of the model",
        32,
        embedded(0.9, 0.8, 0.1),
        {
            name: embedded(0.7, 0.8, 0.1, cosine=0.9) if name == "int4" else embedded(0.9, 0.8, 0.1, cosine=0.9999)
            for name in request.precisions
        },
    )
