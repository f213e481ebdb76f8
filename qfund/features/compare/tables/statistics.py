"""What is noise, and how differences are spread: percentiles, tails, buckets by confidence, errors along blocks; two
candidates compared.
"""

import math
from collections.abc import Mapping

import pandas as pd

from qfund.core.estimate import Estimate
from qfund.core.metrics.estimates import PERCENTILES
from qfund.core.metrics.table import METRICS
from qfund.core.units import number_text
from qfund.drawing.numbers import heading, interval_text, value_text
from qfund.drawing.phrases import label
from qfund.features.compare.request.report import HiddenError, NoiseRun, Report

#: What can be told of an error along the blocks: its name in a control, its axis and whether that is logarithmic.
DRIFTS = {
    "relative L2": ("‖candidate − reference‖ ÷ ‖reference‖", "relative_l2"),
    "SQNR": ("signal to noise (dB)", "sqnr"),
    "1 − cosine": ("1 − cosine", "cosine"),
}


#: What tells most of a run against itself; the table of all metrics has the floor of each.
_NOISE = (
    "kl_mean",
    "kl_max",
    "top1_agreement",
    "perplexity_ratio",
    "max_abs_logit_diff",
    "mean_abs_hidden_diff",
    "max_abs_hidden_diff",
)


def noise(report: Report) -> pd.DataFrame:
    """One row a way in which the reference was run again, with what that changed."""
    shown = [name for name in _NOISE if any(name in run.fidelity for run in report.noise)]
    return pd.DataFrame([_noise(run, shown) for run in report.noise])


def _noise(run: NoiseRun, names: list[str]) -> dict[str, object]:
    row: dict[str, object] = {"The reference, run again": run.meaning, "Positions": run.positions}
    for name in names:
        row[heading(name)] = _noise_text(run.fidelity[name]) if name in run.fidelity else "–"
    return row


def _noise_text(estimate: Estimate) -> str:
    """Of a ratio the distance from 1: with four decimals it would be 1."""
    if estimate.unit == "×" and estimate.value != 1:
        return f"1 {'−' if estimate.value < 1 else '+'} {number_text(abs(estimate.value - 1))}"
    return value_text(estimate.value, "share" if estimate.unit == "share" else "")


def percentiles(report: Report, which: str) -> pd.DataFrame:
    """One row for each candidate and percentile of ``which`` (``"kl"``, ``"kl_reverse"``, ``"delta_p"``)."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "share": share,
            "name": percentile_name(share),
            "value": value,
        }
        for result in report.results
        for share, value in zip(PERCENTILES, result.percentiles.get(which, ()), strict=False)
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "share", "name", "value"])


def percentile_name(share: float) -> str:
    return {0.0: "smallest", 0.5: "median", 1.0: "largest"}.get(share, f"{100 * share:.10g} %")


def percentiles_text(report: Report) -> pd.DataFrame:
    """One row for each candidate and distribution, one column a percentile."""
    titles = {
        "kl": "KL divergence (nat)",
        "kl_reverse": "KL, reversed (nat)",
        "delta_p": "Δp of the correct token (%-points)",
    }
    rows = []
    for which, title in titles.items():
        for result in report.results:
            values = result.percentiles.get(which)
            if values:
                times = 100 if which == "delta_p" else 1
                named = zip(map(percentile_name, PERCENTILES), values, strict=False)
                cells = {name: number_text(times * value) for name, value in named}
                rows.append({"Of": title, "Precision": label(result.precision)} | cells)
    return pd.DataFrame(rows)


#: Percentiles whose two tails are compared, and how much larger one must be to be called heavier.
TAILS, HEAVIER = ((0.01, 0.99), (0.05, 0.95)), 1.15


def tails(report: Report) -> pd.DataFrame:
    """One row a candidate: what the correct token loses at the worst and gains at the best hundredth of positions, and
    ``heavier``: ``"loss"``, ``"gain"``, ``"neither"`` where both tails, at 1 % and at 5 %, are about alike, or
    ``"unclear"``."""
    rows = []
    for result in report.results:
        values = dict(zip(PERCENTILES, result.percentiles.get("delta_p", ()), strict=False))
        if not values:
            continue
        ratios = [(-values[low], values[high]) for low, high in TAILS]
        loses = all(loss > HEAVIER * max(gain, 0.0) and loss > 0 for loss, gain in ratios)
        gains = all(gain > HEAVIER * max(loss, 0.0) and gain > 0 for loss, gain in ratios)
        alike = all(max(loss, gain) <= HEAVIER * min(loss, gain) for loss, gain in ratios)
        rows.append(
            {
                "precision": result.precision,
                "label": label(result.precision),
                "loss": ratios[0][0],
                "gain": ratios[0][1],
                "heavier": "loss" if loses else "gain" if gains else "neither" if alike else "unclear",
            }
        )
    return pd.DataFrame(rows, columns=["precision", "label", "loss", "gain", "heavier"])


def buckets(report: Report) -> pd.DataFrame:
    """One row for each candidate, bucket and metric: how much differs where the reference is sure or is not."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "bucket": f"{100 * bucket.low:.10g}–{100 * bucket.high:.10g} %",
            "metric": name,
            "value": estimate.value,
            "low": estimate.low if estimate.low is not None else _end(estimate, -1),
            "high": estimate.high if estimate.high is not None else _end(estimate, 1),
            "n": estimate.n,
        }
        for result in report.results
        for bucket in result.buckets
        for name, estimate in bucket.estimates.items()
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "bucket", "metric", "value", "low", "high", "n"])


def _end(estimate: Estimate, side: int) -> float:
    return estimate.value + side * 1.96 * (estimate.se or 0.0)


def drift(report: Report, which: str) -> pd.DataFrame:
    """One row for each candidate and block, in the order of execution, by a name of ``DRIFTS``. ``value`` is not a
    number where nothing differs (no axis shows that) or nothing is finite; ``broken`` marks the first block of a
    candidate after which values are not finite."""
    rows = []
    for result in report.results:
        first = next((place for place, error in enumerate(result.drift) if error.nonfinite), None)
        for place, error in enumerate(result.drift):
            rows.append(
                {
                    "precision": result.precision,
                    "label": label(result.precision),
                    "place": place + 1,
                    "block": error.block,
                    "value": _drift(error, which),
                    "nonfinite": error.nonfinite,
                    "broken": place == first,
                }
            )
    return pd.DataFrame(rows, columns=["precision", "label", "place", "block", "value", "nonfinite", "broken"])


def _drift(error: HiddenError, which: str) -> float:
    if which == "SQNR":
        return math.nan if error.sqnr is None else error.sqnr
    value = error.relative_l2 if which == "relative L2" else 1 - error.cosine
    # A cosine is rounded at its 16th digit: what is left of 1 − cosine below that says nothing.
    return value if value > (1e-15 if which == "1 − cosine" else 0) else math.nan


def paired_text(found: Mapping[str, Estimate], one: str, other: str) -> pd.DataFrame:
    """The differences of two candidates, one row a metric, and which of them is the closer one, where that can be
    told."""
    rows = []
    for name, estimate in found.items():
        row = METRICS.get(name)
        rows.append(
            {
                "Metric": heading(name) if row else name,
                "Difference and 95 % interval": interval_text(name, estimate),
                "": _closer(name, estimate, label(one), label(other)),
            }
        )
    return pd.DataFrame(rows, columns=["Metric", "Difference and 95 % interval", ""])


def _closer(name: str, estimate: Estimate, one: str, other: str) -> str:
    none = 1.0 if estimate.unit == "×" else 0.0
    if estimate.low is None or estimate.high is None:
        return "too few chunks to tell"
    if estimate.low <= none <= estimate.high:
        return "not told apart"
    better = METRICS[name].better if name in METRICS else "lower"
    larger = estimate.low > none
    if better == "one" or name == "perplexity":  # the lower perplexity reads the text better
        return f"{other if larger else one} reads this text better"
    return f"{one if larger == (better == 'higher') else other} is closer to the reference"
