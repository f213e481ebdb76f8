"""How well nearness of embeddings orders pairs of texts as people do."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from qfund.core.estimate import Estimate
from qfund.core.intervals import LEVEL, MIN_BLOCKS

Vector = NDArray[np.float64]
_REPLICATES, _AT_ONCE = 1000, 50


def correlations(
    gold: Sequence[float], cosines: Mapping[str, Vector], reference: str
) -> dict[str, tuple[Estimate, Estimate]]:
    """Of each precision whose cosines [pairs] are finite: Spearman's ρ of them and the gold scores, and ρ less the
    reference's.

    95 % intervals: percentiles of a bootstrap over pairs, the same pairs drawn for all precisions, so that what moves
    both does not count (B. Efron, 1979). Pairs are taken as independent; fewer than 8 give no interval.
    """
    finite = {name: row for name, row in cosines.items() if np.isfinite(row).all()}
    if reference not in finite:
        return {}
    scores, random = np.array(gold), np.random.default_rng(0)
    drawn: dict[str, list[Vector]] = {name: [] for name in finite}
    for _ in range(0, _REPLICATES, _AT_ONCE) if len(scores) >= MIN_BLOCKS else ():
        picked = random.integers(0, len(scores), (_AT_ONCE, len(scores)))
        wanted = scores[picked]
        for name, row in finite.items():
            drawn[name].append(spearman(row[picked], wanted))
    values = {name: float(spearman(row[None], scores[None])[0]) for name, row in finite.items()}
    replicates = {name: np.concatenate(rows) for name, rows in drawn.items() if rows}

    def estimate(value: float, found: Vector | None) -> Estimate:
        if found is None or not np.isfinite(found).any():
            return Estimate(value, None, len(scores), "")
        tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        low, high = (float(end) for end in np.nanquantile(found, tails))
        return Estimate(value, None, len(scores), "", min(low, value), max(high, value), len(scores))

    base = replicates.get(reference)
    return {
        name: (
            estimate(value, replicates.get(name)),
            estimate(value - values[reference], None if base is None else replicates[name] - base),
        )
        for name, value in values.items()
        if np.isfinite(value) and np.isfinite(values[reference])
    }


def spearman(one: Vector, other: Vector) -> Vector:
    """Row by row of [rows, pairs], ties at their mean rank; NaN where a row has but one value."""
    first, second = (rankdata(part, axis=1) - (part.shape[1] + 1) / 2 for part in (one, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Vector = (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return found
