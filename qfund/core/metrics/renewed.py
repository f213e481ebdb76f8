"""Intervals of results that are kept, worked out anew from their sums by chunk: older ones knew less of dependence."""

from collections.abc import Mapping

import numpy as np

from qfund.core.estimate import Estimate
from qfund.core.intervals import scatter
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.chunk_sums import ChunkSums
from qfund.core.metrics.positions import Positions
from qfund.core.metrics.statistics import EXP, Mean, PerplexityDifference
from qfund.core.metrics.table import METRICS


def renewed(fidelity: Mapping[str, Estimate], chunks: ChunkSums) -> dict[str, Estimate]:
    """The same estimates, with the intervals that they would have if they were measured today; those of which there
    are no sums are left as they are."""
    # The sum of a linear function of vectors is that function of their sums.
    summed = Positions(**{field: np.array(values) for field, values in chunks.sums.items()})
    return {name: _renewed(name, estimate, chunks, summed) for name, estimate in fidelity.items()}


def _renewed(name: str, estimate: Estimate, chunks: ChunkSums, summed: Positions) -> Estimate:
    row = METRICS.get(name)
    if row is None or any(getattr(summed, field) is None for field in row.needs):
        return estimate
    statistic = row.statistic
    if isinstance(statistic, PerplexityDifference):
        reference = chunk_sums.mean(chunks, "nll_reference")
        statistic = statistic.beside(EXP.of(reference.value)) if reference else statistic
    if not isinstance(statistic, Mean) or not statistic.linear:
        return estimate
    counts = chunk_sums.counts(chunks, statistic.field) if statistic.over is None else getattr(summed, statistic.over)
    if not counts.any():
        return estimate
    texts = np.array(chunks.texts, dtype=np.int64)
    return statistic.bounded(estimate, scatter(statistic.values(summed), counts, texts, statistic.memory))
