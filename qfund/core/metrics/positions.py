"""Per-position measurements of a candidate against the reference, and which text each position belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qfund.core.intervals import KEPT, Index, Vector, merged

#: How many of the most likely outputs are compared in order.
TOP_K = 10


@dataclass(frozen=True, slots=True)
class Positions:
    """One candidate against the reference, position by position. Every vector holds finite positions only, in order.

    Attributes:
        mean_abs, max_abs: [n], |candidate − reference| over a position's logits.
        kl: [n], KL(reference ‖ candidate) in nats.
        same_top1: [n], 1.0 where both argmaxes agree.
        hidden_mean_abs, hidden_max_abs, hidden_cosine: [n], of last hidden states.
        kl_reverse: [n], KL(candidate ‖ reference) in nats.
        confidence: [n], the reference's largest probability.
        top_agreed: [n], how many leading outputs agree in order: 0 … ``TOP_K``.
        logit_signal, logit_noise, logit_cosine: [n], Σ reference², Σ (candidate − reference)² and the cosine over a
            position's logits.
        hidden_signal, hidden_noise: [n], the same sums over last hidden states.
        nll_reference, nll_candidate: [m], −ln p of the correct token, where there is one.
        confidence_scored: [m], the reference's largest probability at those positions; where it is None, every position
            has a correct token if m = n.
        delta_p: [m], candidate's p(correct) − reference's.
        chunk: [n], and ``chunk_scored`` [m]: the chunk of the input that a position stands in; of pooled outputs and
            labels the example.
        pooled_max_abs, pooled_cosine: [chunks], of pooled outputs.
    """

    mean_abs: Vector | None = None
    max_abs: Vector | None = None
    kl: Vector | None = None
    same_top1: Vector | None = None
    hidden_mean_abs: Vector | None = None
    hidden_max_abs: Vector | None = None
    hidden_cosine: Vector | None = None
    nll_reference: Vector | None = None
    nll_candidate: Vector | None = None
    pooled_max_abs: Vector | None = None
    pooled_cosine: Vector | None = None
    kl_reverse: Vector | None = None
    confidence: Vector | None = None
    confidence_scored: Vector | None = None
    top_agreed: Vector | None = None
    logit_signal: Vector | None = None
    logit_noise: Vector | None = None
    logit_cosine: Vector | None = None
    hidden_signal: Vector | None = None
    hidden_noise: Vector | None = None
    delta_p: Vector | None = None
    chunk: Vector | None = None
    chunk_scored: Vector | None = None


class Texts:
    """Which text each position belongs to, and which block of chunks it is counted in."""

    def __init__(self, positions: Positions, texts: Sequence[int] = ()) -> None:
        """``texts`` is the text of each chunk; empty where all are of one."""
        ends = [int(ids.max()) + 1 for ids in (positions.chunk, positions.chunk_scored) if ids is not None and len(ids)]
        chunks = max(ends, default=0)
        self.of_chunk: Index = np.asarray(texts if len(texts) else [0] * chunks, dtype=np.int64)
        if len(self.of_chunk) < chunks:
            raise ValueError(f"{chunks} chunks, and texts of {len(self.of_chunk)}")
        self.block = merged(self.of_chunk.tolist(), KEPT)
        self.of_block = self.of_chunk[np.unique(self.block, return_index=True)[1]]
        self._single = len(np.unique(self.of_chunk)) < 2
        given = {"chunk": positions.chunk, "chunk_scored": positions.chunk_scored}
        self._chunk = {name: None if ids is None else ids.astype(np.int64) for name, ids in given.items()}

    def _ids(self, field: str, n: int) -> Index | None:
        """The chunk of each of the n values of a vector; None where that is not known."""
        if field.startswith("pooled"):  # one an example, unless some were not finite
            return np.arange(n) if n == len(self.of_chunk) else None
        ids = self._chunk["chunk_scored" if field in SCORED else "chunk"]
        if ids is not None and len(ids) != n:
            raise ValueError(f"{n} values of {field}, and the chunks of {len(ids)}")
        return ids

    def owner(self, field: str, n: int) -> Index | None:
        """[n], the text of each value of a vector; None where all are of one, or that is not known."""
        ids = None if self._single else self._ids(field, n)
        return None if ids is None else self.of_chunk[ids]

    def sums(self, field: str, values: Vector) -> Vector | None:
        """[blocks], the sum over each block of a vector that stands beside ``field``."""
        ids = self._ids(field, len(values))
        return None if ids is None else np.bincount(self.block[ids], values, len(self.of_block)).astype(np.float64)


#: The vectors that have a value only where there is a correct token.
SCORED = frozenset({"nll_reference", "nll_candidate", "delta_p", "confidence_scored"})
