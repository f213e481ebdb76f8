"""What a report keeps of every position: sums by chunk, from which means, intervals and paired comparisons follow."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from qfund.core.intervals import DISTANCES, Dependence, Scatter, Vector, scatter
from qfund.core.metrics.positions import SCORED, Positions, Texts


@dataclass(frozen=True, slots=True)
class ChunkSums:
    """Sums over the positions of each chunk, in the order of the input; of very many chunks, neighbours of one text are
    merged. All means, their intervals and paired comparisons of candidates are functions of these.

    Attributes:
        positions: finite positions of each chunk; ``scored`` those with a correct token.
        texts: index of the text that each chunk belongs to (all 0 for a single one).
        sums: name of a vector of ``metrics.Positions`` → its sum over each chunk.
    """

    positions: tuple[int, ...]
    scored: tuple[int, ...]
    texts: tuple[int, ...]
    sums: dict[str, tuple[float, ...]]


#: Vectors whose sums mean something; of largest values they do not.
SUMMED = (
    "mean_abs",
    "kl",
    "same_top1",
    "hidden_mean_abs",
    "hidden_cosine",
    "nll_reference",
    "nll_candidate",
    "kl_reverse",
    "top_agreed",
    "logit_signal",
    "logit_noise",
    "logit_cosine",
    "hidden_signal",
    "hidden_noise",
    "delta_p",
)


def of(positions: Positions, texts_of_chunks: Sequence[int] = ()) -> ChunkSums | None:
    """The sums of one candidate; None where the chunks of its positions are not known.

    ``texts_of_chunks`` is the text of each chunk, in order; empty where all are of one. Neighbouring chunks of a text
    are merged beyond ``intervals.KEPT``, so that what is stored stays small.
    """
    if positions.chunk is None and positions.chunk_scored is None:
        return None
    texts = Texts(positions, texts_of_chunks)
    blocks = len(texts.of_block)
    sums = {}
    for field in SUMMED:
        values = getattr(positions, field)
        found = None if values is None or not len(values) else texts.sums(field, values)
        if found is not None:
            sums[field] = tuple(found.tolist())

    def counted(ids: Vector | None) -> tuple[int, ...]:
        held = np.zeros(blocks) if ids is None else np.bincount(texts.block[ids.astype(np.int64)], minlength=blocks)
        return tuple(int(count) for count in held)

    return ChunkSums(
        positions=counted(positions.chunk),
        scored=counted(positions.chunk_scored),
        texts=tuple(texts.of_block.tolist()),
        sums=sums,
    )


def counts(sums: ChunkSums, field: str) -> Vector:
    """[blocks], how many positions of each block a vector has a value at."""
    return np.array(sums.scored if field in SCORED else sums.positions, dtype=np.float64)


def mean(
    sums: ChunkSums, field: str, where: NDArray[np.bool_] | None = None, memory: Dependence = DISTANCES
) -> Scatter | None:
    """The mean of a vector with the scatter of its blocks, those of ``where`` only; None where it was not kept."""
    n = counts(sums, field) if where is None else counts(sums, field) * where
    if field not in sums.sums or not n.any():
        return None
    return scatter(np.array(sums.sums[field]), n, np.array(sums.texts, dtype=np.int64), memory)


assert set(SUMMED) <= {row.name for row in fields(Positions)}
