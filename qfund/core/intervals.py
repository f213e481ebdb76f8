"""95 % intervals of means over tokens that are not independent: a text is read in chunks, and blocks of neighbouring
chunks are what is drawn.

Dependence does not end with a chunk: on the shipped model's text a chunk's mean KL correlates with the next one's by
0.3, and −ln p by 0.6, so that chunks alone would give half the error. Hence few, long blocks, which grow with the text:
10 to 30, says B. Schmeiser ("Batch size effects in the analysis of simulation output", Operations Research 30, 1982),
and the fewest are the safest. A mean is a ratio of sums over blocks (over texts, where there are enough of them), and
its error comes from how the blocks scatter, whatever the dependence inside them: the cluster-robust variance, which is
the variance that a bootstrap over blocks converges to. Student's t stands for the few degrees of freedom, and Hall's
transformation (P. Hall, "On the removal of skewness by transformation", JRSS B 54, 1992) for the skewness that KL has;
to second order it is the studentised bootstrap, without its random numbers. Each bound is the farther of the two, since
the first alone misses on the long side of skewed values and the second on both sides of symmetric, heavy-tailed ones.
How often they cover: ``benchmarks/coverage.py``.

Of a short text even these blocks are short: what goes on beyond them makes all blocks alike, and their scatter tells
too little. How much goes on cannot be seen in 8 or 30 chunks, so it is assumed (``Dependence``), as the autocorrelation
of two long texts has it, so that intervals from stretches of them hold the whole text's figure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Index = NDArray[np.int64]
LEVEL = 0.95
#: Fewer blocks give no interval: too little is known of how they scatter.
MIN_BLOCKS = 8
#: Neighbouring chunks are merged to at most this many blocks: more would be taken as independent that are not.
MOST_BLOCKS = 10
#: As many sums by chunk are kept in a report, so that other blocks can be made of them.
KEPT = 256


class Dependence(NamedTuple):
    """How the means of chunks of one text are assumed to correlate: those k apart by ``share`` · ``decay``ᵏ. A share
    is what has its cause in the text's course, and goes on; the rest is each chunk's own."""

    share: float
    decay: float


#: Of how hard a text is; of how far outputs are from another's, which follows that in part; of signed and rare
#: differences, in which it cancels. On the whole text of the shipped model (169 chunks) and on 136 chunks of installed
#: packages' documentation, chunks 1, 2, 3, 5 and 8 apart correlate by 0.59, 0.39, 0.32, 0.19, 0.05 in their NLL, 0.41,
#: 0.24, 0.19, 0.13, 0.02 in the KL of int4, and by −0.2 to 0.2 in signed differences.
LEVELS, DISTANCES, DIFFERENCES = Dependence(0.6, 0.85), Dependence(0.4, 0.85), Dependence(1.0, 0.3)


def merged(texts: Sequence[int], most: int) -> Index:
    """The block of each chunk, from the text that each belongs to (in order): neighbours of one text together, so that
    there are at most so many blocks in all but for texts that would have fewer than two (of their one chunk: one)."""
    owner = np.asarray(texts, dtype=np.int64)
    _, first, sizes = np.unique(owner, return_index=True, return_counts=True)
    numbers = sizes if len(owner) <= most else np.maximum(np.minimum(sizes, 2), most * sizes // len(owner))
    blocks = np.empty(len(owner), dtype=np.int64)
    done = 0
    for start, size, count in zip(first.tolist(), sizes.tolist(), numbers.tolist(), strict=True):
        blocks[start : start + size] = done + np.arange(size) * count // size
        done += count
    return blocks


@dataclass(frozen=True, slots=True)
class Scatter:
    """A mean and how each block pulls it.

    Attributes:
        value: the ratio of sums; of several texts, the mean of theirs (each text counts the same).
        influence: [blocks], each block's first-order contribution to ``value`` − its expectation; they sum to 0 in
            each stratum.
        strata: [blocks], within which blocks are drawn: 0 for all, or the text of each.
        worth: how many independent positions of one kind would weigh as much, at most.
    """

    value: float
    influence: Vector
    strata: Index
    worth: float

    @property
    def blocks(self) -> int:
        """How many there are; 0 where their scatter cannot be known, since a stratum has but one."""
        sizes = np.bincount(self.strata)
        return 0 if (sizes == 1).any() else len(self.influence)

    @property
    def variance(self) -> float:
        """Of ``value``: Σ over strata of B/(B − 1) · Σ influence²."""
        return float(sum(self._variances()[0]))

    def _variances(self) -> tuple[list[float], list[int]]:
        parts, freedom = [], []
        for stratum in np.unique(self.strata):
            own = self.influence[self.strata == stratum]
            freedom.append(len(own) - 1)
            parts.append(float((own**2).sum()) * len(own) / (len(own) - 1) if len(own) > 1 else math.inf)
        return parts, freedom

    @property
    def freedom(self) -> int:
        """Degrees of freedom: blocks − 1; of several strata Satterthwaite's, rounded down."""
        parts, freedom = self._variances()
        if len(parts) == 1 or not sum(parts):
            return sum(freedom)
        shares = [part / sum(parts) for part in parts]
        return max(1, math.floor(1 / sum(s**2 / more for s, more in zip(shares, freedom, strict=True)) + 1e-9))


def scatter(sums: Vector, counts: Vector, texts: Index, memory: Dependence | None = None) -> Scatter:
    """The mean Σ sums / Σ counts of chunks [chunks]; the mean over texts where they belong to several.

    ``memory`` is how chunks of a text are assumed to correlate, None for not at all. Chunks that count nothing are left
    out. Where there are at least ``MIN_BLOCKS`` texts they are the blocks; fewer are strata, in which blocks of
    neighbouring chunks are drawn.
    """
    kept = counts != 0
    sums, counts, texts = sums[kept], counts[kept], texts[kept]
    names, owner = np.unique(texts, return_inverse=True)
    totals = np.bincount(owner, sums), np.bincount(owner, counts)
    means = totals[0] / totals[1]
    value = float(means.mean())
    worth = len(names) ** 2 / float((1 / totals[1]).sum())
    if len(names) >= MIN_BLOCKS:
        return Scatter(value, (means - value) / len(names), np.zeros(len(names), dtype=np.int64), worth)
    influence = (sums - means[owner] * counts) / totals[1][owner] / len(names)
    blocks = merged(owner.tolist(), MOST_BLOCKS)
    strata = owner[np.unique(blocks, return_index=True)[1]].astype(np.int64)
    chunks, parts = np.bincount(owner), np.bincount(strata)
    unseen = [_unseen(int(chunk), int(part), memory) for chunk, part in zip(chunks, parts, strict=True)]
    pull = np.bincount(blocks, influence).astype(np.float64) * np.sqrt(unseen)[strata]
    return Scatter(value, pull, strata, worth)


def _unseen(chunks: int, blocks: int, memory: Dependence | None) -> float:
    """The variance of a text's mean over what the scatter of its blocks is expected to say of it."""
    if blocks < 2 or memory is None:
        return 1.0
    block, whole = _variance(chunks / blocks, memory), _variance(chunks, memory)
    return (blocks - 1) * whole / (block - whole)


def _variance(chunks: float, memory: Dependence) -> float:
    """Of the mean of so many neighbouring chunks, beside that of one."""
    apart = np.arange(1, math.ceil(chunks))
    return float(1 + 2 * memory.share * ((1 - apart / chunks) * memory.decay**apart).sum()) / chunks


def difference(one: Scatter, other: Scatter) -> Scatter:
    """``one − other``, both of the same blocks, so that what moves both does not count."""
    return Scatter(one.value - other.value, one.influence - other.influence, one.strata, min(one.worth, other.worth))


def interval(mean: Scatter, share: bool = False, level: float = LEVEL) -> tuple[float, float] | None:
    """The interval that covers the expectation at ``level``; None for fewer than ``MIN_BLOCKS`` blocks.

    ``share`` says that the mean is one of zeros and ones: Wilson's interval with as many independent positions as the
    blocks' scatter is worth stands for t's, so that "none of 1,000" has an upper bound.
    """
    if mean.blocks < MIN_BLOCKS:
        return None
    quantile = t_quantile((1 + level) / 2, mean.freedom)
    se = math.sqrt(mean.variance)
    if share:
        low, high = _wilson(mean.value, se, quantile, mean.worth)
    else:
        low, high = mean.value - quantile * se, mean.value + quantile * se
    if se:
        scaled = mean.influence / np.abs(mean.influence).max()
        skewness = float((scaled**3).sum()) / float((scaled**2).sum()) ** 1.5
        low = min(low, mean.value - se * _hall(quantile, skewness))
        high = max(high, mean.value - se * _hall(-quantile, skewness))
    return (max(0.0, low), min(1.0, high)) if share else (low, high)


def _hall(quantile: float, skewness: float) -> float:
    """The quantile of a studentised mean whose skewness is that, by the inverse of Hall's cubic transformation."""
    if abs(skewness) < 1e-6:
        return quantile
    return 3 / skewness * (math.cbrt(1 + skewness * (quantile - skewness / 6)) - 1)


def _wilson(share: float, se: float, quantile: float, worth: float) -> tuple[float, float]:
    spread = share * (1 - share)
    n = min(worth, spread / se**2) if se**2 > 0 and spread > 0 else worth
    square = quantile**2 / n
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * max(0.0, spread) + square**2 / 4) / (1 + square)
    # In exact arithmetic the share lies inside.
    return min(share, middle - half), max(share, middle + half)


@lru_cache(4096)
def t_quantile(probability: float, freedom: int) -> float:
    """Of Student's t with a whole number of degrees of freedom; scipy's takes longer to import than a small model to
    be compared. With t = √freedom · tan θ the distribution function is a finite sum (Abramowitz and Stegun, 26.7.3 and
    26.7.4), concave in θ > 0: Newton's steps from 0 only rise."""
    if probability <= 0.5:
        return -t_quantile(1 - probability, freedom) if probability < 0.5 else 0.0
    first = 1 + freedom % 2  # of the factors that lead from one power of the cosine to the next but one
    factors = np.arange(first, freedom - 2, 2) / np.arange(first + 1, freedom - 1, 2)
    weights = np.concatenate([np.ones(min(1, freedom - 1)), factors]).cumprod()
    powers = np.arange(len(weights)) * 2 + freedom % 2
    scale = 2 / math.pi if freedom % 2 else 1.0
    # The last of the sum's terms is in the density too: its derivative is scale · (freedom − 1)-th factor · cos^….
    density = scale * float(weights[-1]) * (freedom - 1) if freedom > 1 else scale
    angle = 0.0
    for _ in range(100):
        cosine = math.cos(angle)
        inside = scale * (freedom % 2 * angle + math.sin(angle) * float((weights * cosine**powers).sum()))
        step = (2 * probability - 1 - inside) / (density * cosine ** (freedom - 1))
        if step <= 1e-16 * angle:
            break
        angle += step
    return math.sqrt(freedom) * math.tan(angle)


def quantile_among(comparisons: int, blocks: int) -> float:
    """Of Student's t, for the ends of a 95 % interval from ``blocks`` blocks, one of ``comparisons`` (Bonferroni)."""
    return t_quantile(1 - (1 - LEVEL) / 2 / comparisons, blocks - 1)


def widened(value: float, low: float, high: float, blocks: int, comparisons: int) -> tuple[float, float]:
    """A 95 % interval from ``blocks`` blocks made wider for one of ``comparisons`` looked at (Bonferroni's
    adjustment): each side by the ratio of the two quantiles of t."""
    if comparisons <= 1 or blocks < 2:
        return low, high
    alone = t_quantile((1 + LEVEL) / 2, blocks - 1)
    among = quantile_among(comparisons, blocks)
    return value - (value - low) * among / alone, value + (high - value) * among / alone
