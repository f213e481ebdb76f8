"""The one table of metrics: what each is called, its unit, direction, definition and source."""

import math
from dataclasses import dataclass

from qfund.core.intervals import DIFFERENCES, LEVELS
from qfund.core.metrics.positions import TOP_K
from qfund.core.metrics.statistics import (
    DECIBEL,
    EXP,
    ROOT,
    Correlation,
    Largest,
    Mean,
    Percentile,
    PerplexityDifference,
    Statistic,
    all_agree,
    mean_of,
    square_of_delta,
    surprise,
    vector,
)
from qfund.core.names import look_up

PERPLEXITY = Mean("nll_candidate", vector("nll_candidate"), EXP, memory=LEVELS)


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
        mean_of("mean_abs", 0),
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
        Mean("logit_noise", vector("logit_noise"), DECIBEL, over="logit_signal"),
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
        mean_of("logit_cosine", -1, 1),
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
        mean_of("kl", 0),
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
        mean_of("kl_reverse", 0),
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
        mean_of("same_top1", share=True, memory=DIFFERENCES),
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
        Mean("top_agreed", all_agree, share=True, linear=False),
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
        mean_of("top_agreed", 0, TOP_K),
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
        mean_of("delta_p", -1, 1, memory=DIFFERENCES),
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
        Mean("delta_p", square_of_delta, ROOT, linear=False),
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
        mean_of("nll_candidate", 0, memory=LEVELS),
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
        PERPLEXITY,
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
        Mean("nll_candidate", surprise, EXP, memory=DIFFERENCES),
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
        Mean("nll_candidate", surprise, memory=DIFFERENCES),
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
        "Candidate's perplexity minus the reference's; error and interval are the ratio's, times the reference's.",
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
        mean_of("hidden_mean_abs", 0),
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
        Mean("hidden_noise", vector("hidden_noise"), DECIBEL, over="hidden_signal"),
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
        mean_of("hidden_cosine", -1, 1),
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
        mean_of("pooled_cosine", -1, 1),
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
