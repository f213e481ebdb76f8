"""The one table of metrics: what is computed from per-position measurements, with unit, direction and definition.

Everything here is double precision NumPy on short arrays; the arrays come from ``qfund.measures.fidelity``.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qfund.names import look_up

Vector = NDArray[np.float64]
#: How many of the most likely outputs are compared in order.
TOP_K = 10
#: The shares at which distributions are told: llama.cpp's, from the smallest to the largest value.
PERCENTILES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what is needed to trust it. ``se`` is the standard error of a mean over ``n`` positions taken as
    independent (llama.cpp's convention); None where the metric is no mean, or n < 2.

    ``low`` and ``high`` bound the 95 % interval that respects that tokens of one text are not independent (bootstrap
    over ``blocks`` chunks); None where there are too few chunks, or the metric is no mean.
    """

    value: float
    se: float | None
    n: int
    unit: str
    low: float | None = None
    high: float | None = None
    blocks: int = 0


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
    top_agreed: Vector | None = None
    logit_signal: Vector | None = None
    logit_noise: Vector | None = None
    logit_cosine: Vector | None = None
    hidden_signal: Vector | None = None
    hidden_noise: Vector | None = None
    delta_p: Vector | None = None
    chunk: Vector | None = None
    chunk_scored: Vector | None = None


def _mean(values: Vector, unit: str) -> Estimate:
    n = len(values)
    se = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    return Estimate(float(values.mean()), se, n, unit)


def _of_mean(field: str) -> Callable[[Positions, str], Estimate]:
    return lambda positions, unit: _mean(getattr(positions, field), unit)


def _of_max(field: str) -> Callable[[Positions, str], Estimate]:
    def compute(positions: Positions, unit: str) -> Estimate:
        values: Vector = getattr(positions, field)
        return Estimate(float(values.max()), None, len(values), unit)

    return compute


def _of_percentile(field: str, share: float) -> Callable[[Positions, str], Estimate]:
    def compute(positions: Positions, unit: str) -> Estimate:
        values: Vector = getattr(positions, field)
        return Estimate(float(np.quantile(values, share)), None, len(values), unit)

    return compute


def perplexity_of(nll: Vector) -> Estimate:
    """exp(mean NLL), with its standard error by the delta method: PPL · σ(mean NLL). Infinite beyond floats."""
    mean = _mean(nll, "nat")
    value = math.exp(mean.value) if mean.value < _LARGEST_EXPONENT else math.inf
    return Estimate(value, None if mean.se is None else value * mean.se, mean.n, "")


_LARGEST_EXPONENT = math.log(sys.float_info.max)


def _perplexity(positions: Positions, unit: str) -> Estimate:
    assert positions.nll_candidate is not None
    return perplexity_of(positions.nll_candidate)


def _perplexity_ratio(positions: Positions, unit: str) -> Estimate:
    # The mean of the paired differences: its variance is σ_q² + σ_p² − 2·cov, as llama.cpp writes it.
    assert positions.nll_candidate is not None and positions.nll_reference is not None
    return perplexity_of(positions.nll_candidate - positions.nll_reference)


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table.

    ``better`` is ``"lower"``, ``"higher"`` or ``"one"`` (closer to 1). ``needs`` names the vectors it reads: a metric
    whose vectors a task does not give is not reported.
    """

    name: str
    label: str
    unit: str
    better: str
    needs: tuple[str, ...]
    compute: Callable[[Positions, str], Estimate]
    definition: str
    source: str


_LESSON = "the lesson's notebook: (a − b).abs() over all logits"
_LLAMA = "llama.cpp, perplexity --kl-divergence; in double precision from exact log-probabilities"

_ROWS = (
    Metric(
        "mean_abs_logit_diff",
        "Mean |logit difference|",
        "logit",
        "lower",
        ("mean_abs",),
        _of_mean("mean_abs"),
        "Mean over positions and vocabulary of |candidate − reference|. Standard error over positions.",
        _LESSON,
    ),
    Metric(
        "max_abs_logit_diff",
        "Largest |logit difference|",
        "logit",
        "lower",
        ("max_abs",),
        _of_max("max_abs"),
        "The single largest |candidate − reference| of all logits.",
        _LESSON,
    ),
    Metric(
        "kl_mean",
        "KL divergence, mean",
        "nat",
        "lower",
        ("kl",),
        _of_mean("kl"),
        "Mean over positions of Σ p (ln p − ln q), p the reference's and q the candidate's distribution.",
        _LLAMA,
    ),
    Metric(
        "kl_p99",
        "KL divergence, 99th percentile",
        "nat",
        "lower",
        ("kl",),
        _of_percentile("kl", 0.99),
        "One position in a hundred diverges more than this; linear interpolation at 0.99·(n−1).",
        _LLAMA,
    ),
    Metric(
        "kl_max",
        "KL divergence, largest",
        "nat",
        "lower",
        ("kl",),
        _of_max("kl"),
        "The position where the two distributions differ most.",
        _LLAMA,
    ),
    Metric(
        "top1_agreement",
        "Top-1 agreement",
        "share",
        "higher",
        ("same_top1",),
        _of_mean("same_top1"),
        "Share of positions whose most likely output is the same in both; of equal ones, the lower token id counts.",
        _LLAMA,
    ),
    Metric(
        "perplexity",
        "Perplexity",
        "",
        "lower",
        ("nll_candidate",),
        _perplexity,
        "exp of the mean −ln p(correct token); standard error by the delta method.",
        _LLAMA,
    ),
    Metric(
        "perplexity_ratio",
        "Perplexity ratio",
        "×",
        "one",
        ("nll_candidate", "nll_reference"),
        _perplexity_ratio,
        "Candidate's perplexity over the reference's, from paired differences, so that their covariance counts.",
        _LLAMA,
    ),
    Metric(
        "mean_abs_hidden_diff",
        "Mean |hidden-state difference|",
        "",
        "lower",
        ("hidden_mean_abs",),
        _of_mean("hidden_mean_abs"),
        "Mean over positions and features of |candidate − reference| of the last hidden states.",
        _LESSON,
    ),
    Metric(
        "max_abs_hidden_diff",
        "Largest |hidden-state difference|",
        "",
        "lower",
        ("hidden_max_abs",),
        _of_max("hidden_max_abs"),
        "The single largest |candidate − reference| of the last hidden states.",
        _LESSON,
    ),
    Metric(
        "hidden_cosine",
        "Hidden-state cosine",
        "",
        "higher",
        ("hidden_cosine",),
        _of_mean("hidden_cosine"),
        "Mean over positions of the cosine between the two last hidden states.",
        "cosine similarity",
    ),
    Metric(
        "max_abs_pooled_diff",
        "Largest |pooled difference|",
        "",
        "lower",
        ("pooled_max_abs",),
        _of_max("pooled_max_abs"),
        "The single largest |candidate − reference| of the pooled outputs.",
        _LESSON,
    ),
    Metric(
        "pooled_cosine",
        "Pooled-output cosine",
        "",
        "higher",
        ("pooled_cosine",),
        _of_mean("pooled_cosine"),
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


def estimates(positions: Positions) -> dict[str, Estimate]:
    """Every metric that these positions can give, by name, in the table's order.

    One that leaves the range of a float (the perplexity of a model that is broken altogether) is not reported.
    """
    found: dict[str, Estimate] = {}
    for row in METRICS.values():
        vectors = [getattr(positions, field) for field in row.needs]
        if all(vector is not None and len(vector) for vector in vectors):
            estimate = row.compute(positions, row.unit)
            if math.isfinite(estimate.value):
                found[row.name] = estimate
    return found
