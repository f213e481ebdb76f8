"""Metrics, with how sure they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.core.units import bytes_text
from qfund.drawing.columns import MODEL_BITS, QUANTIZED_BITS
from qfund.drawing.frames import frame
from qfund.drawing.numbers import floor_text, heading, interval_text, value_text
from qfund.drawing.phrases import BETTER, label
from qfund.features.compare.request.bits import parameter_bits
from qfund.features.compare.request.noise_floor import below_floor, noise_floor
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.simultaneous import simultaneous

if TYPE_CHECKING:
    import pandas as pd

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


def metric_rows(report: Report, every: bool = True) -> list[dict[str, str]]:
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
    # A column in which nothing was measured says nothing.
    empty = {column for column in rows[0] if all(row[column] == "–" for row in rows)} if rows else set()
    return [{column: cell for column, cell in row.items() if column not in empty} for row in rows]


def metrics_text(report: Report, every: bool = True) -> "pd.DataFrame":
    """``metric_rows`` as a frame."""
    rows = metric_rows(report, every)
    return frame(rows, None if rows else ["Metric", "Better", "Definition"])


def metrics_by_precision(report: Report, every: bool = True) -> "pd.DataFrame":
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


def fidelity(report: Report) -> "pd.DataFrame":
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
    return frame(rows, columns)


def overview(report: Report) -> "pd.DataFrame":
    """One row a candidate with the numbers that tell most, as numbers, so that a reader can sort by them."""
    whole = report.reference.footprint_bytes
    rows = []
    for result in report.results:
        told = result.fidelity
        # What tells most stands first: a narrow screen shows no more.
        rows.append(
            {
                "Precision": label(result.precision),
                "KL": told["kl_mean"].value if "kl_mean" in told else None,
                "Cosine": told["hidden_cosine"].value if "hidden_cosine" in told else None,
                "Perplexity ×": _shown(report, result, "perplexity_ratio"),
                "Same top-1": 100 * told["top1_agreement"].value if "top1_agreement" in told else None,
                "Memory": 100 * result.footprint_bytes / whole if whole else None,
                "Stored": bytes_text(result.footprint_bytes),
                "Stored (B)": result.footprint_bytes,
                QUANTIZED_BITS: result.bits_per_weight,
                MODEL_BITS: parameter_bits(report, result),
            }
        )
    found = frame(rows)
    kept = [name for name in found.columns if not (found[name].isna() | (found[name] == "–")).all()]
    return found[kept]


def _shown(report: Report, result: PrecisionResult, name: str) -> str:
    if name in result.fidelity:
        return interval_text(name, simultaneous(report, result)[name])
    return "not finite" if result.nonfinite_positions and not result.fidelity else "–"
