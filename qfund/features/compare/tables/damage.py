"""How far outputs move: distributions, and damage against memory and bits."""

import math

import pandas as pd

from qfund.core.metrics.table import METRICS
from qfund.drawing.phrases import FEW, label
from qfund.features.compare.request.bits import weight_bits
from qfund.features.compare.request.report import Report
from qfund.precisions.files import family_of


def bits_against_damage(report: Report) -> pd.DataFrame:
    """One row a candidate: bits of a weight, footprint and KL divergence. Those without a finite one are left out, and
    those that are wider than the reference."""
    widest = weight_bits(report.reference) or math.inf
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "family": family_of(result.precision),
            "bits": bits,
            "bytes": result.memory,
            "value": result.fidelity["kl_mean"].value,
            "se": result.fidelity["kl_mean"].se,
        }
        for result in report.results
        if "kl_mean" in result.fidelity
        and family_of(result.precision)
        and (bits := weight_bits(result)) is not None
        and bits <= widest
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "family", "bits", "bytes", "value", "se"])


def differences(report: Report) -> pd.DataFrame:
    """The distribution of |difference|: one row for each candidate and bin, empty ends cut off.

    ``share`` is of all outputs, exact zeros included; ``low`` and ``high`` are the bin's edges.
    """
    rows = []
    for result in report.results:
        histogram = result.differences
        if histogram is None:
            continue
        outputs = sum(histogram.counts) + histogram.zeros
        filled = [index for index, count in enumerate(histogram.counts) if count]
        if not filled:
            continue
        # One empty bin on each side, so that a line drawn through the bins comes down to zero.
        for index in range(filled[0] - 1, filled[-1] + 2):
            low = histogram.low + index * histogram.width
            count = histogram.counts[index] if 0 <= index < len(histogram.counts) else 0
            rows.append(
                {
                    "precision": result.precision,
                    "label": label(result.precision),
                    "low": 10.0**low,
                    "centre": 10.0 ** (low + histogram.width / 2),
                    "high": 10.0 ** (low + histogram.width),
                    "count": count,
                    "share": count / outputs,
                }
            )
    return pd.DataFrame(rows, columns=["precision", "label", "low", "centre", "high", "count", "share"])


#: What a candidate's damage is read from, by what its task gives.
DAMAGE = ("kl_mean", "mean_abs_logit_diff", "mean_abs_hidden_diff", "max_abs_pooled_diff")


def memory_against_damage(report: Report) -> pd.DataFrame:
    """One row a candidate: its footprint beside the first of ``DAMAGE`` that all have. One of which nothing is
    finite is left out, and among many one that is larger than the reference, which would push the others together."""
    compared = [row for row in report.results if row.fidelity]
    shared = [name for name in DAMAGE if compared and all(name in row.fidelity for row in compared)]
    if not shared:
        return pd.DataFrame()
    name = shared[0]
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "bytes": result.memory,
            "metric": name,
            "name": METRICS[name].label,
            "unit": METRICS[name].unit,
            "value": result.fidelity[name].value,
            "se": result.fidelity[name].se,
            "low": result.fidelity[name].low,
            "high": result.fidelity[name].high,
        }
        for result in compared
        if len(compared) <= FEW or result.memory <= report.reference.memory
    ]
    return pd.DataFrame(rows)


def compared_quantity(report: Report) -> str:
    """What the differences are differences of."""
    hidden = any("mean_abs_hidden_diff" in result.fidelity for result in report.results)
    return "hidden-state difference" if hidden else "logit difference"


def frontier(frame: pd.DataFrame, size: str) -> pd.DataFrame:
    """The rows to which no other is both smaller and closer to the reference, the smallest first."""
    ordered = frame.sort_values([size, "value"], kind="stable")
    return ordered[ordered["value"] < ordered["value"].cummin().shift(fill_value=math.inf)]
