"""The one table of metrics: what is computed from per-position measurements, with unit, direction and definition.

Everything here is double precision NumPy on short arrays; the arrays come from ``qfund.measures.fidelity``. Where an
input has several texts, every mean is the mean of the texts' own means, so that a long text counts no more than a short
one; maxima and percentiles are those of all positions together.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qfund.intervals import KEPT, Index, Scatter, interval, merged, scatter, widened
from qfund.intervals import Vector as Vector
from qfund.names import look_up

#: How many of the most likely outputs are compared in order.
TOP_K = 10
#: The shares at which distributions are told: llama.cpp's, from the smallest to the largest value.
PERCENTILES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what is needed to trust it. ``se`` is the standard error of a mean over ``n`` positions taken as
    independent (llama.cpp's convention); None where the metric is no mean, or n < 2.

    ``low`` and ``high`` bound the 95 % interval that respects that tokens of one text are not independent: it comes
    from how ``blocks`` blocks of neighbouring chunks scatter (see ``qfund.intervals``). None where there are too few of
    them, or the metric is no mean.
    """

    value: float
    se: float | None
    n: int
    unit: str
    low: float | None = None
    high: float | None = None
    blocks: int = 0

    def interval(self, comparisons: int = 1) -> tuple[float, float] | None:
        """The 95 % interval, widened for one of ``comparisons`` looked at (Bonferroni); None where there is none."""
        if self.low is None or self.high is None:
            return None
        return widened(self.value, self.low, self.high, self.blocks, comparisons)


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


@dataclass(frozen=True, slots=True)
class Bucket:
    """Positions at which the reference's largest probability lies in [low, high), the last one with its end."""

    low: float
    high: float
    estimates: dict[str, Estimate]


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
    positions). ``share`` says that the values are zeros and ones, ``bounds`` what the mean can be.
    """

    field: str
    values: Callable[[Positions], Vector]
    link: Link = ITSELF
    over: str | None = None
    share: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        values, over = self.values(positions), self._below(positions)
        value, se = _ratio(values, over, texts.owner(self.field, len(values)))
        found = Estimate(self.link.of(value), _scaled(se, self.link.slope(value)), len(values), unit)
        return self._bounded(found, self.scatter(positions, texts))

    def scatter(self, positions: Positions, texts: Texts) -> Scatter | None:
        """How the blocks scatter, before ``link``; None where chunks are not known."""
        values, over = self.values(positions), self._below(positions)
        sums = texts.sums(self.field, values)
        counts = texts.sums(self.field, np.ones(len(values)) if over is None else over)
        if sums is None or counts is None or not counts.any():
            return None
        return scatter(sums, counts, texts.of_block)

    def _below(self, positions: Positions) -> Vector | None:
        return None if self.over is None else _vector(self.over)(positions)

    def _bounded(self, found: Estimate, seen: Scatter | None) -> Estimate:
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
    """PPL_q − PPL_p, linearised about the two means for its error, so that their covariance counts."""

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        assert positions.nll_candidate is not None and positions.nll_reference is not None
        owner = texts.owner("nll_candidate", len(positions.nll_candidate))
        linear, whole = np.zeros(len(positions.nll_candidate)), 0.0
        for sign, nll in ((1, positions.nll_candidate), (-1, positions.nll_reference)):
            mean = _ratio(nll, None, owner)[0]
            perplexity = EXP.of(mean)
            if not math.isfinite(perplexity):
                return Estimate(math.nan, None, len(linear), unit)
            linear += sign * perplexity * (nll - mean)
            whole += sign * perplexity
        return Mean("nll_candidate", lambda _: linear + whole).of(positions, unit, texts)


class Correlation:
    """Pearson's, of the two NLLs; not finite where one of them is the same everywhere."""

    def of(self, positions: Positions, unit: str, texts: Texts) -> Estimate:
        assert positions.nll_candidate is not None and positions.nll_reference is not None
        q, p = (nll - nll.mean() for nll in (positions.nll_candidate, positions.nll_reference))
        below = math.sqrt(float(q @ q) * float(p @ p))
        return Estimate(min(1.0, float(q @ p) / below) if below else math.nan, None, len(q), unit)


def perplexity_of(nll: Vector) -> Estimate:
    """exp(mean NLL) of one text, with its standard error by the delta method: PPL · σ(mean NLL). Infinite beyond
    floats."""
    positions = Positions(nll_candidate=nll)
    return _PERPLEXITY.of(positions, "", Texts(positions))


def _vector(field: str) -> Callable[[Positions], Vector]:
    def read(positions: Positions) -> Vector:
        values: Vector = getattr(positions, field)
        return values

    return read


def _mean_of(field: str, least: float = -math.inf, most: float = math.inf, share: bool = False) -> Mean:
    return Mean(field, _vector(field), share=share, bounds=(least, most))


def _surprise(positions: Positions) -> Vector:
    # The mean of the paired differences: its variance is σ_q² + σ_p² − 2·cov, as llama.cpp writes it.
    assert positions.nll_candidate is not None and positions.nll_reference is not None
    return positions.nll_candidate - positions.nll_reference


def _all_agree(positions: Positions) -> Vector:
    assert positions.top_agreed is not None
    return (positions.top_agreed >= TOP_K).astype(np.float64)


def _square_of_delta(positions: Positions) -> Vector:
    assert positions.delta_p is not None
    return positions.delta_p**2


_PERPLEXITY = Mean("nll_candidate", _vector("nll_candidate"), EXP)


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table.

    Attributes:
        better: ``"lower"``, ``"higher"``, ``"one"`` (closer to 1) or ``"zero"`` (closer to 0).
        perfect: what it is of a model against itself; None where that depends on the model.
        needs: the vectors it reads. A metric whose vectors a task does not give is not reported.
    """

    name: str
    label: str
    unit: str
    better: str
    perfect: float | None
    needs: tuple[str, ...]
    statistic: Statistic
    definition: str
    source: str

    def damage(self, value: float) -> float | None:
        """How far a value is from perfect, 0 or more; of an SQNR, the noise's share of the amplitude, 10^(−dB/20)."""
        if self.perfect is None:
            return None
        return 10.0 ** (-value / 20) if math.isinf(self.perfect) else abs(value - self.perfect)


_LESSON = "the lesson's notebook: (a − b).abs() over all logits"
_LLAMA = "llama.cpp, perplexity --kl-divergence; in double precision from exact log-probabilities"
_EXLLAMA = "exllamav3, eval/model_diff; in double precision from exact log-probabilities"
_SQNR = "signal-to-quantisation-noise ratio, as torch.ao.ns and exllamav3 compute it"

_ROWS = (
    Metric(
        "mean_abs_logit_diff",
        "Mean |logit difference|",
        "logit",
        "lower",
        0.0,
        ("mean_abs",),
        _mean_of("mean_abs", 0),
        "Mean over positions and vocabulary of |candidate − reference|. Standard error over positions.",
        _LESSON,
    ),
    Metric(
        "max_abs_logit_diff",
        "Largest |logit difference|",
        "logit",
        "lower",
        0.0,
        ("max_abs",),
        Largest("max_abs"),
        "The single largest |candidate − reference| of all logits.",
        _LESSON,
    ),
    Metric(
        "logit_sqnr",
        "Logit SQNR",
        "dB",
        "higher",
        math.inf,
        ("logit_signal", "logit_noise"),
        Mean("logit_noise", _vector("logit_noise"), DECIBEL, over="logit_signal"),
        "10·log10(Σ reference² / Σ (candidate − reference)²) over all logits; 6 dB are one bit.",
        _SQNR,
    ),
    Metric(
        "logit_cosine",
        "Logit cosine",
        "",
        "higher",
        1.0,
        ("logit_cosine",),
        _mean_of("logit_cosine", -1, 1),
        "Mean over positions of the cosine between the two vectors of logits.",
        "cosine similarity",
    ),
    Metric(
        "kl_mean",
        "KL divergence, mean",
        "nat",
        "lower",
        0.0,
        ("kl",),
        _mean_of("kl", 0),
        "Mean over positions of Σ p (ln p − ln q), p the reference's and q the candidate's distribution.",
        _LLAMA,
    ),
    Metric(
        "kl_median",
        "KL divergence, median",
        "nat",
        "lower",
        0.0,
        ("kl",),
        Percentile("kl", 0.5),
        "Half of all positions diverge less than this.",
        _LLAMA,
    ),
    Metric(
        "kl_p99",
        "KL divergence, 99th percentile",
        "nat",
        "lower",
        0.0,
        ("kl",),
        Percentile("kl", 0.99),
        "One position in a hundred diverges more than this; linear interpolation at 0.99·(n−1).",
        _LLAMA,
    ),
    Metric(
        "kl_p999",
        "KL divergence, 99.9th percentile",
        "nat",
        "lower",
        0.0,
        ("kl",),
        Percentile("kl", 0.999),
        "One position in a thousand diverges more than this; linear interpolation at 0.999·(n−1).",
        _LLAMA,
    ),
    Metric(
        "kl_max",
        "KL divergence, largest",
        "nat",
        "lower",
        0.0,
        ("kl",),
        Largest("kl"),
        "The position where the two distributions differ most.",
        _LLAMA,
    ),
    Metric(
        "kl_reverse_mean",
        "Reverse KL, mean",
        "nat",
        "lower",
        0.0,
        ("kl_reverse",),
        _mean_of("kl_reverse", 0),
        "Mean over positions of Σ q (ln q − ln p): large where the candidate is sure of what the reference doubts.",
        _EXLLAMA,
    ),
    Metric(
        "kl_reverse_p99",
        "Reverse KL, 99th percentile",
        "nat",
        "lower",
        0.0,
        ("kl_reverse",),
        Percentile("kl_reverse", 0.99),
        "One position in a hundred has a larger reverse KL divergence; linear interpolation at 0.99·(n−1).",
        _EXLLAMA,
    ),
    Metric(
        "kl_reverse_max",
        "Reverse KL, largest",
        "nat",
        "lower",
        0.0,
        ("kl_reverse",),
        Largest("kl_reverse"),
        "The largest reverse KL divergence of any position.",
        _EXLLAMA,
    ),
    Metric(
        "top1_agreement",
        "Top-1 agreement",
        "share",
        "higher",
        1.0,
        ("same_top1",),
        _mean_of("same_top1", share=True),
        "Share of positions whose most likely output is the same in both; of equal ones, the lower token id counts.",
        _LLAMA,
    ),
    Metric(
        "top_k_agreement",
        f"Top-{TOP_K} agreement in order",
        "share",
        "higher",
        1.0,
        ("top_agreed",),
        Mean("top_agreed", _all_agree, share=True),
        f"Share of positions whose {TOP_K} most likely outputs are the same, in the same order.",
        _EXLLAMA,
    ),
    Metric(
        "top_depth",
        "Leading outputs in agreement",
        "",
        "higher",
        float(TOP_K),
        ("top_agreed",),
        _mean_of("top_agreed", 0, TOP_K),
        f"Mean over positions of how many of the {TOP_K} most likely outputs agree in order, from the first on.",
        _EXLLAMA,
    ),
    Metric(
        "delta_p_mean",
        "Δp, mean",
        "",
        "zero",
        0.0,
        ("delta_p",),
        _mean_of("delta_p", -1, 1),
        "Mean of the candidate's p(correct token) minus the reference's, from −1 to 1: below 0 is damage.",
        _LLAMA,
    ),
    Metric(
        "delta_p_rms",
        "Δp, root mean square",
        "",
        "lower",
        0.0,
        ("delta_p",),
        Mean("delta_p", _square_of_delta, ROOT),
        "√mean(Δp²): how far p(correct token) moves, either way. Error 0.5/RMS · that of mean Δp².",
        _LLAMA,
    ),
    Metric(
        "nll_mean",
        "NLL, mean",
        "nat",
        "lower",
        None,
        ("nll_candidate",),
        _mean_of("nll_candidate", 0),
        "Mean −ln p(correct token) of the candidate, whatever the reference.",
        _LLAMA,
    ),
    Metric(
        "perplexity",
        "Perplexity",
        "",
        "lower",
        None,
        ("nll_candidate",),
        _PERPLEXITY,
        "exp of the mean −ln p(correct token); standard error by the delta method.",
        _LLAMA,
    ),
    Metric(
        "perplexity_ratio",
        "Perplexity ratio",
        "×",
        "one",
        1.0,
        ("nll_candidate", "nll_reference"),
        Mean("nll_candidate", _surprise, EXP),
        "Candidate's perplexity over the reference's, from paired differences, so that their covariance counts.",
        _LLAMA,
    ),
    Metric(
        "ln_perplexity_ratio",
        "ln perplexity ratio",
        "nat",
        "zero",
        0.0,
        ("nll_candidate", "nll_reference"),
        Mean("nll_candidate", _surprise),
        "Mean difference of the two −ln p(correct token); σ² = σ_q² + σ_p² − 2·cov.",
        _LLAMA,
    ),
    Metric(
        "perplexity_diff",
        "Perplexity difference",
        "",
        "zero",
        0.0,
        ("nll_candidate", "nll_reference"),
        PerplexityDifference(),
        "Candidate's perplexity minus the reference's; the error counts their covariance.",
        _LLAMA,
    ),
    Metric(
        "nll_correlation",
        "NLL correlation",
        "",
        "higher",
        1.0,
        ("nll_candidate", "nll_reference"),
        Correlation(),
        "Pearson's correlation of the two −ln p(correct token) over positions.",
        _LLAMA,
    ),
    Metric(
        "mean_abs_hidden_diff",
        "Mean |hidden-state difference|",
        "",
        "lower",
        0.0,
        ("hidden_mean_abs",),
        _mean_of("hidden_mean_abs", 0),
        "Mean over positions and features of |candidate − reference| of the last hidden states.",
        _LESSON,
    ),
    Metric(
        "max_abs_hidden_diff",
        "Largest |hidden-state difference|",
        "",
        "lower",
        0.0,
        ("hidden_max_abs",),
        Largest("hidden_max_abs"),
        "The single largest |candidate − reference| of the last hidden states.",
        _LESSON,
    ),
    Metric(
        "hidden_sqnr",
        "Hidden-state SQNR",
        "dB",
        "higher",
        math.inf,
        ("hidden_signal", "hidden_noise"),
        Mean("hidden_noise", _vector("hidden_noise"), DECIBEL, over="hidden_signal"),
        "10·log10(Σ reference² / Σ (candidate − reference)²) over the last hidden states; 6 dB are one bit.",
        _SQNR,
    ),
    Metric(
        "hidden_cosine",
        "Hidden-state cosine",
        "",
        "higher",
        1.0,
        ("hidden_cosine",),
        _mean_of("hidden_cosine", -1, 1),
        "Mean over positions of the cosine between the two last hidden states.",
        "cosine similarity",
    ),
    Metric(
        "max_abs_pooled_diff",
        "Largest |pooled difference|",
        "",
        "lower",
        0.0,
        ("pooled_max_abs",),
        Largest("pooled_max_abs"),
        "The single largest |candidate − reference| of the pooled outputs.",
        _LESSON,
    ),
    Metric(
        "pooled_cosine",
        "Pooled-output cosine",
        "",
        "higher",
        1.0,
        ("pooled_cosine",),
        _mean_of("pooled_cosine", -1, 1),
        "Mean over chunks of the cosine between the two pooled outputs.",
        "cosine similarity",
    ),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def metric(name: str) -> Metric:
    """The row of that name.

    Raises:
        UnknownName: with the closest name and all there are.
    """
    return look_up(METRICS, name, "metric")


def estimates(positions: Positions, texts: Sequence[int] = ()) -> dict[str, Estimate]:
    """Every metric that these positions can give, by name, in the table's order.

    One that leaves the range of a float (the perplexity of a model that is broken altogether, the SQNR of equal
    outputs) is not reported. ``texts`` is the text of each chunk, where there are several.
    """
    return _estimates(positions, Texts(positions, texts), METRICS)


def _estimates(positions: Positions, texts: Texts, names: Iterable[str]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for row in map(metric, names):
        vectors = [getattr(positions, field) for field in row.needs]
        if all(vector is not None and len(vector) for vector in vectors):
            estimate = row.statistic.of(positions, row.unit, texts)
            if math.isfinite(estimate.value):
                found[row.name] = estimate
    return found


def percentiles(positions: Positions) -> dict[str, tuple[float, ...]]:
    """KL in both directions and Δp at ``PERCENTILES``, by the vector's name; only those that there are."""
    found = {}
    for field in ("kl", "kl_reverse", "delta_p"):
        values = getattr(positions, field)
        if values is not None and len(values):
            found[field] = tuple(np.quantile(values, PERCENTILES).tolist())
    return found


#: The reference's largest probability, where one bucket ends and the next begins.
CONFIDENCES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
#: What is told of each bucket.
BUCKETED = ("kl_mean", "top1_agreement", "perplexity_ratio")


def buckets(positions: Positions, texts: Sequence[int] = ()) -> tuple[Bucket, ...]:
    """Positions by the reference's confidence, since means are dominated by those where it is undecided; none where
    outputs are no distributions. A bucket without positions has no estimates."""
    if positions.confidence is None or not len(positions.confidence):
        return ()
    if not texts:  # the blocks of all positions, also where a bucket does not reach the last one
        texts = Texts(positions).of_chunk.tolist()
    found = []
    where = _bucket_of(positions.confidence)
    scored = _bucket_of(_confidence_scored(positions))
    for number, (low, high) in enumerate(pairwise(CONFIDENCES)):
        inside = _chosen(positions, where == number, scored == number)
        found.append(Bucket(low, high, _estimates(inside, Texts(inside, texts), BUCKETED)))
    return tuple(found)


def _bucket_of(confidence: Vector) -> Index:
    # A largest probability may come out a rounding above 1.
    return np.searchsorted(CONFIDENCES[1:-1], confidence, side="right")


def _confidence_scored(positions: Positions) -> Vector:
    """[m]; empty where it is not known, so that no perplexity is told."""
    assert positions.confidence is not None
    if positions.confidence_scored is not None:
        return positions.confidence_scored
    nll = positions.nll_candidate
    return positions.confidence if nll is not None and len(nll) == len(positions.confidence) else np.empty(0)


def _chosen(positions: Positions, where: NDArray[np.bool_], scored: NDArray[np.bool_]) -> Positions:
    """What the buckets tell, at some positions only."""

    def at(values: Vector | None, mask: NDArray[np.bool_]) -> Vector | None:
        return None if values is None or len(values) != len(mask) else values[mask]

    return Positions(
        kl=at(positions.kl, where),
        same_top1=at(positions.same_top1, where),
        chunk=at(positions.chunk, where),
        nll_reference=at(positions.nll_reference, scored),
        nll_candidate=at(positions.nll_candidate, scored),
        chunk_scored=at(positions.chunk_scored, scored),
    )
