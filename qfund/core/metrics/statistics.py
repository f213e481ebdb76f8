"""What a metric computes of positions: means and their links, maxima, percentiles; NumPy on short arrays of doubles.

Where an input has several texts, every mean is the mean of the texts' own means, so that a long text counts no more
than a short one; maxima and percentiles are those of all positions together.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from qfund.core.estimate import Estimate
from qfund.core.intervals import DIFFERENCES, DISTANCES, Dependence, Index, Scatter, Vector, interval, scatter
from qfund.core.metrics.positions import TOP_K, Positions, Texts


@dataclass(frozen=True, slots=True)
class Link:
    """A monotone function of a mean, and its derivative."""

    of: Callable[[float], float]
    slope: Callable[[float], float]


def _exp(value: float) -> float:
    return math.exp(value) if value < _LARGEST_EXPONENT else math.inf


def _decibel(noise: float) -> float:
    return -10 * math.log10(noise) if noise > 0 else math.inf


_LARGEST_EXPONENT = math.log(sys.float_info.max)
ITSELF = Link(lambda value: value, lambda value: 1.0)
#: Infinite beyond floats.
EXP = Link(_exp, _exp)
ROOT = Link(lambda value: math.sqrt(max(0.0, value)), lambda value: 0.5 / math.sqrt(value) if value > 0 else 0.0)
#: Of noise over signal; infinite where there is no noise.
DECIBEL = Link(_decibel, lambda value: 10 / math.log(10) / value if value > 0 else 0.0)


class Statistic(Protocol):
    """What a metric computes."""

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate: ...


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a vector, or a ratio of two means, through ``link``, with its error by the delta method.

    ``field`` names the vector that ``values`` stands beside, ``over`` the vector of the denominator (None counts
    positions). ``share`` says that the values are zeros and ones, ``bounds`` what the mean can be, ``memory`` how it is
    assumed to correlate from chunk to chunk, ``linear`` that the sum of ``values`` follows from sums of the vectors.
    """

    field: str
    values: Callable[[Positions], Vector]
    link: Link = ITSELF
    over: str | None = None
    share: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    memory: Dependence = DISTANCES
    linear: bool = True

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        values, over = self.values(positions), self._below(positions)
        value, se = _ratio(values, over, texts.owner(self.field, len(values)))
        found = Estimate(self.link.of(value), _scaled(se, self.link.slope(value)), len(values), unit)
        return self.bounded(found, self.scatter(positions, texts))

    def scatter(self, positions: Positions, texts: Texts) -> Scatter | None:
        """How the blocks scatter, before ``link``; None where chunks are not known."""
        values, over = self.values(positions), self._below(positions)
        sums = texts.sums(self.field, values)
        counts = texts.sums(self.field, np.ones(len(values)) if over is None else over)
        if sums is None or counts is None or not counts.any():
            return None
        return scatter(sums, counts, texts.of_block, self.memory)

    def _below(self, positions: Positions) -> Vector | None:
        return None if self.over is None else vector(self.over)(positions)

    def bounded(self, found: Estimate, seen: Scatter | None) -> Estimate:
        """With the interval that the blocks' scatter gives, none where they are too few."""
        found = replace(found, low=None, high=None, blocks=0)
        inside = None if seen is None else interval(seen, self.share)
        if seen is None or inside is None:
            return found
        low, high = sorted(self.link.of(min(max(bound, self.bounds[0]), self.bounds[1])) for bound in inside)
        if not math.isfinite(low) or not math.isfinite(high):
            return found
        # Rounding apart, the estimate lies inside: its sums were taken in another order.
        return replace(found, low=min(low, found.value), high=max(high, found.value), blocks=seen.blocks)


def _ratio(values: Vector, over: Vector | None, owner: Index | None) -> tuple[float, float | None]:
    """The mean of ``values``, over that of ``over`` where given, averaged over the texts that ``owner`` names, and its
    standard error with positions taken as independent; None where a text has one position."""
    found: list[float] = []
    variance = 0.0
    every = [slice(None)] if owner is None else [owner == text for text in np.unique(owner)]
    for chosen in every:
        own, whole = values[chosen], 1.0
        ratio, rest = float(own.mean()), own
        if over is not None:
            whole = float(over[chosen].mean())
            ratio = ratio / whole if whole else math.nan
            rest = own - ratio * over[chosen]
        found.append(ratio)
        variance += float(rest.var(ddof=1)) / len(own) / whole**2 if len(own) > 1 and whole else math.nan
    value = found[0] if len(found) == 1 else math.fsum(found) / len(found)
    return value, None if math.isnan(variance) else math.sqrt(variance) / len(found)


def _scaled(se: float | None, slope: float) -> float | None:
    return None if se is None else abs(slope) * se


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest of a vector."""

    field: str

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        values: Vector = getattr(positions, self.field)
        return Estimate(float(values.max()), None, len(values), unit)


@dataclass(frozen=True, slots=True)
class Percentile:
    """The value below which a share of a vector lies, by linear interpolation at share · (n − 1)."""

    field: str
    share: float

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        values: Vector = getattr(positions, self.field)
        return Estimate(float(np.quantile(values, self.share)), None, len(values), unit)


class PerplexityDifference:
    """PPL_q − PPL_p = PPL_p · (exp Δ − 1), a function of the mean difference Δ of the two NLLs as the ratio is: what
    is said of one is said of the other. The interval takes PPL_p as known."""

    @staticmethod
    def beside(reference: float) -> Mean:
        """The statistic where the reference's perplexity is that."""
        link = Link(lambda mean: reference * (EXP.of(mean) - 1), lambda mean: reference * EXP.of(mean))
        return Mean("nll_candidate", surprise, link, memory=DIFFERENCES)

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        assert positions.nll_candidate is not None and positions.nll_reference is not None
        owner = texts.owner("nll_candidate", len(positions.nll_reference))
        means = [_ratio(nll, None, owner)[0] for nll in (positions.nll_candidate, positions.nll_reference)]
        candidate, reference = map(EXP.of, means)
        found = self.beside(reference).of(positions, unit, texts)
        if not math.isfinite(candidate) or not math.isfinite(reference):
            return found
        # Its standard error is llama.cpp's: linearised about both means, so that PPL_p's own error and their
        # covariance count.
        linear = candidate * positions.nll_candidate - reference * positions.nll_reference
        return replace(found, se=_ratio(linear, None, owner)[1])


class Correlation:
    """Pearson's, of the two NLLs; not finite where one of them is the same everywhere."""

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        assert positions.nll_candidate is not None and positions.nll_reference is not None
        q, p = (nll - nll.mean() for nll in (positions.nll_candidate, positions.nll_reference))
        below = math.sqrt(float(q @ q) * float(p @ p))
        return Estimate(min(1.0, float(q @ p) / below) if below else math.nan, None, len(q), unit)


def vector(field: str) -> Callable[[Positions], Vector]:
    def read(positions: Positions) -> Vector:
        values: Vector = getattr(positions, field)
        return values

    return read


def mean_of(
    field: str, least: float = -math.inf, most: float = math.inf, *, share: bool = False, memory: Dependence = DISTANCES
) -> Mean:
    return Mean(field, vector(field), share=share, bounds=(least, most), memory=memory)


def surprise(positions: Positions) -> Vector:
    # The mean of the paired differences: its variance is σ_q² + σ_p² − 2·cov, as llama.cpp writes it.
    assert positions.nll_candidate is not None and positions.nll_reference is not None
    return positions.nll_candidate - positions.nll_reference


def all_agree(positions: Positions) -> Vector:
    assert positions.top_agreed is not None
    return (positions.top_agreed >= TOP_K).astype(np.float64)


def square_of_delta(positions: Positions) -> Vector:
    assert positions.delta_p is not None
    return positions.delta_p**2
