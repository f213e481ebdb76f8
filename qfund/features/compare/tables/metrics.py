"""Metrics, with how sure they are."""

from collections.abc import Mapping

import pandas as pd

from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.core.units import bytes_text
from qfund.drawing.columns import MODEL_BITS, QUANTIZED_BITS
from qfund.drawing.numbers import floor_text, heading, interval_text, value_text
from qfund.drawing.phrases import BETTER, label
from qfund.features.compare.request.noise_floor import below_floor, noise_floor
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.simultaneous import simultaneous
from qfund.features.compare.tables.footprints import parameter_bits

_NO_DIFFERENCE = "no measurable difference"


#: What tells most of a candidate, by what its task gives: the first ``SHOWN`` that a report has.
FIRST = (
    *("perplexity_ratio", "top1_agreement", "kl_mean", "mean_abs_logit_diff", "max_abs_logit_diff"),
    *("hidden_cosine", "pooled_cosine", "mean_abs_hidden_diff", "max_abs_hidden_diff", "max_abs_pooled_diff"),
)
SHOWN = 5


def metrics_of(report: Report, every: bool = True) -> list[str]:
    """Names of metrics that some candidate has: all in the table's order, or those that tell most."""
    found = {name for result in report.results for name in result.fidelity}
    return [name for name in METRICS if name in found] if every else [name for name in FIRST if name in found][:SHOWN]


def metrics_text(report: Report, every: bool = True) -> pd.DataFrame:
    """One row a metric, one column a candidate with its 95 % interval, and beside them what is noise. A cell that is
    not above it says so."""
    names = metrics_of(report, every)
    floor = noise_floor(report)
    told = [(result, simultaneous(report, result)) for result in report.results]
    reference = report.reference, simultaneous(report, report.reference)
    rows = []
    for name in names:
        row = {"Metric": heading(name)}
        row |= {label(result.precision): _cell(result, fidelity, name, floor) for result, fidelity in told}
        row["Noise floor"] = floor_text(name, floor[name]) if name in floor else "–"
        row[f"{label(report.reference.precision)} (reference)"] = _cell(*reference, name, {})
        rows.append(row | {"Better": BETTER[METRICS[name].better], "Definition": METRICS[name].definition})
    frame = pd.DataFrame(rows, columns=None if rows else ["Metric", "Better", "Definition"])
    # A column in which nothing was measured says nothing.
    return frame[[column for column in frame.columns if frame.empty or not (frame[column] == "–").all()]]


def metrics_by_precision(report: Report, every: bool = True) -> pd.DataFrame:
    """``metrics_text`` turned round, for many candidates."""
    columns = metrics_text(report, every).drop(columns=["Better", "Definition"]).set_index("Metric").T
    columns.columns.name = None
    return columns.rename_axis("Precision").reset_index()


def _cell(result: PrecisionResult, fidelity: Mapping[str, Estimate], name: str, floor: Mapping[str, float]) -> str:
    if name not in fidelity:
        return "not finite" if result.nonfinite_positions and not fidelity else "–"
    if below_floor(fidelity[name], name, floor):
        return f"{_NO_DIFFERENCE} ({value_text(fidelity[name].value, METRICS[name].unit)})"
    return interval_text(name, fidelity[name])


def fidelity(report: Report) -> pd.DataFrame:
    """One row for each candidate and metric."""
    rows = [
        {
            "precision": result.precision,
            "candidate": label(result.precision),
            "metric": name,
            "name": METRICS[name].label if name in METRICS else name,
            "value": estimate.value,
            "se": estimate.se,
            "n": estimate.n,
            "unit": METRICS[name].unit if name in METRICS else estimate.unit,
            "better": METRICS[name].better if name in METRICS else "",
            "definition": METRICS[name].definition if name in METRICS else "",
        }
        for result in report.results
        for name, estimate in result.fidelity.items()
    ]
    columns = ["precision", "candidate", "metric", "name", "value", "se", "n", "unit", "better", "definition"]
    return pd.DataFrame(rows, columns=columns)


def overview(report: Report) -> pd.DataFrame:
    """One row a candidate with the numbers that tell most, as numbers, so that a reader can sort by them."""
    whole = report.reference.footprint_bytes
    rows = []
    for result in report.results:
        found = result.fidelity
        # What tells most stands first: a narrow screen shows no more.
        rows.append(
            {
                "Precision": label(result.precision),
                "KL": found["kl_mean"].value if "kl_mean" in found else None,
                "Cosine": found["hidden_cosine"].value if "hidden_cosine" in found else None,
                "Perplexity ×": _shown(report, result, "perplexity_ratio"),
                "Same top-1": 100 * found["top1_agreement"].value if "top1_agreement" in found else None,
                "Memory": 100 * result.footprint_bytes / whole if whole else None,
                "Stored": bytes_text(result.footprint_bytes),
                "Stored (B)": result.footprint_bytes,
                QUANTIZED_BITS: result.bits_per_weight,
                MODEL_BITS: parameter_bits(report, result),
            }
        )
    frame = pd.DataFrame(rows)
    kept = [name for name in frame.columns if not (frame[name].isna() | (frame[name] == "–")).all()]
    return frame[kept]


def _shown(report: Report, result: PrecisionResult, name: str) -> str:
    if name in result.fidelity:
        return interval_text(name, simultaneous(report, result)[name])
    return "not finite" if result.nonfinite_positions and not result.fidelity else "–"
