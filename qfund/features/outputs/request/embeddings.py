"""Embeddings side by side: what is asked (``EmbeddingsRequest``), what was found (``Embeddings``). No torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qfund.core.environment import Environment
from qfund.core.estimate import Estimate, of_items
from qfund.core.names import look_up
from qfund.core.request import LATER
from qfund.inputs import pairs
from qfund.inputs.pairs import Pair
from qfund.precisions import request as precisions_request

SCHEMA = 1
MAX_TEXTS = 64
DEFAULT_PRECISIONS = ("bf16", "fp16", "int8", "int4", "int2", "nf4")
DEFAULT_QUERY = "Read a file line by line"
DEFAULT_TEXTS = (
    "Open a file and return a stream of its lines",
    "Iterate over the lines of a text file",
    "Write a string to a file and close it",
    "Return the size of a file in bytes",
    "Sort a list of numbers in place",
    "Raise an exception when the socket is closed",
    "Convert a date to seconds since the epoch",
    "Draw a red circle above a blue square",
)
OWN = "own"
POOLINGS = {
    OWN: "as the checkpoint's folder says (modules.json of sentence-transformers: its pooling and layers after it, "
    "prompts and longest text), the mean where it says nothing",
    "mean": "the mean over all tokens of the text, special ones included; texts are read alone, so none is padding",
    "first": "the first token's ([CLS] of BERT and its kin)",
    "last": "the last token's, which is the only one of a decoder that has read all of the text",
    "pooler": "what the model's own pooler gives, where it has one",
}


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """What to embed: ``texts`` are ranked by their cosine with ``query``. ``pooling`` is a name of ``POOLINGS``, of the
    hidden states after the last layer. ``pairs`` are embedded besides, as sentences are: their cosines are to order
    them as their scores do. The other parts are as in a comparison's ``Spec``."""

    model: str
    reference: str = ""
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    query: str = DEFAULT_QUERY
    texts: tuple[str, ...] = DEFAULT_TEXTS
    pooling: str = OWN
    also: tuple[str, ...] = ()
    revision: str | None = None
    pairs: tuple[Pair, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        precisions_request.take_usual_reference(self)


EXAMPLE = EmbeddingsRequest("docstring-vectors")


def checked(request: EmbeddingsRequest) -> EmbeddingsRequest:
    """The same request in its one canonical form. Raises ``UsageError`` for what cannot be asked."""
    request = precisions_request.canonical(request)
    look_up(POOLINGS, request.pooling, "pooling")
    precisions_request.check_texts((request.query,), "query", 1)
    precisions_request.check_texts(request.texts, "sentence", MAX_TEXTS)
    pairs.check(request.pairs, precisions_request.MAX_TEXT)
    return request


@dataclass(frozen=True, slots=True)
class Embedded:
    """One precision. Texts are in the request's order, the query before them; None where an embedding is not finite.

    Attributes:
        similarity: cosine of every pair of them.
        cosine: of each one's embedding here with the reference's of the same text; empty for the reference itself.
        correlation: Spearman's, of the cosines of pairs and their scores; None without pairs.
        correlation_change: that less the reference's.
    """

    similarity: tuple[tuple[float | None, ...], ...]
    cosine: tuple[float | None, ...] = ()
    correlation: Estimate | None = None
    correlation_change: Estimate | None = None

    @property
    def scores(self) -> tuple[float | None, ...]:
        """Cosine of each sentence with the query."""
        return self.similarity[0][1:]

    @property
    def ranking(self) -> tuple[int, ...]:
        """Numbers of the sentences, the nearest to the query first; those that are not finite last."""
        scores = [-math.inf if score is None else score for score in self.scores]
        return tuple(sorted(range(len(scores)), key=lambda index: (-scores[index], index)))


@dataclass(frozen=True, slots=True)
class Embeddings:
    """``what`` says which hidden states were pooled, and ``pooled`` how; earlier results leave that to the request."""

    schema: int
    request: EmbeddingsRequest
    created: str
    environment: Environment
    architecture: str
    task: str
    what: str
    dimensions: int
    reference: Embedded
    candidates: dict[str, Embedded]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    pooled: str = ""

    @property
    def pooling(self) -> str:
        return self.pooled or POOLINGS[self.request.pooling]


@dataclass(frozen=True, slots=True)
class Statistics:
    """``cosine``: of the same text's embedding in both precisions, on average; ``worst`` the smallest; ``tau``:
    Kendall's, of the order of the sentences (1: the same, −1: turned round); ``moved``: sentences on another place."""

    cosine: Estimate | None
    worst: float | None
    tau: float | None
    moved: int


def statistics(found: Embeddings, name: str) -> Statistics:
    """Of the candidate of that name."""
    row = found.candidates[name]
    cosines = [value for value in row.cosine if value is not None]
    mean = of_items(cosines, "") if cosines else None
    tau = kendall(found.reference.scores, row.scores)
    moved = sum(one != other for one, other in zip(found.reference.ranking, row.ranking, strict=True))
    return Statistics(mean, min(cosines, default=None), tau, moved)


def reordered(found: Embeddings, name: str) -> list[float]:
    """With each text as the query in turn, the share of pairs of the others that stand in another order by nearness
    than in the reference; of texts with at least two others, where all is finite."""
    here, there = (
        np.array([[math.nan if value is None else value for value in row] for row in part.similarity])
        for part in (found.reference, found.candidates[name])
    )
    shares = []
    for query in range(len(here) if len(here) > 2 else 0):
        one, other = (np.delete(part[query], query) for part in (here, there))
        if np.isfinite(one).all() and np.isfinite(other).all():
            first, second = (np.sign(np.subtract.outer(row, row)) for row in (one, other))
            shares.append(float((first != second).sum() / (len(one) * (len(one) - 1))))
    return shares


def kendall(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Kendall's τ-b of two lists of scores: pairs in the same order minus pairs in the other, over all pairs (less
    those that are tied). None where there is no pair to order, or a score is missing."""
    if None in one or None in other:
        return None
    first, second = (np.sign(np.subtract.outer(np.array(row, float), np.array(row, float))) for row in (one, other))
    pairs = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / pairs if pairs else None
