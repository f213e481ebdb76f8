"""A report as CSV."""

import pandas as pd

from qfund.drawing.csv import csv
from qfund.features.compare.request.bits import parameter_bits
from qfund.features.compare.request.report import Report, measured
from qfund.features.compare.tables.footprints import PARTS, tensors


def export_csv(report: Report) -> bytes:
    """Every number of the report in one long table: of what, which quantity, value, standard error, count, unit, and
    the ends of its 95 % interval."""
    environment = report.environment
    header = {
        "model": report.spec.model,
        "model_id": environment.model_id,
        "created": report.created,
        "qfund": report.qfund,
        "torch": environment.versions.get("torch", ""),
        "device": environment.device,
        "cpu": environment.cpu,
        "input_tokens": report.input.tokens,
        "input_context": report.input.context,
        "input_sha256": report.input.sha256,
    }
    rows: list[dict[str, object]] = []
    for role, result in (("reference", report.reference), *(("candidate", result) for result in report.results)):
        of = {**header, "precision": result.precision, "role": role}
        sizes = {
            "footprint_bytes": result.footprint_bytes,
            "predicted_bytes": result.predicted_bytes,
            "transformers_bytes": result.transformers_bytes,
            **{f"{part}_bytes": result.parts.get(part, 0) for part in PARTS},
            **({} if result.cache is None else {"cache_bytes": result.cache.bytes}),
            **{f"{run.library}_bytes": run.footprint_bytes for run in result.libraries},
        }
        rows += [{**of, "quantity": name, "value": count, "unit": "B"} for name, count in sizes.items()]
        bits = {"bits_per_weight": result.bits_per_weight, "bits_per_parameter": parameter_bits(report, result)}
        rows += [{**of, "quantity": name, "value": value, "unit": "bit"} for name, value in bits.items() if value]
        if result.saturation:
            numbers = {"value": result.saturation.weights, "n": result.saturation.of, "unit": ""}
            rows.append({**of, "quantity": "saturated_weights", **numbers})
        if result.range:
            rows.append({**of, "quantity": "headroom", "value": result.range.headroom, "unit": ""})
        times = {"qfund": result.latency} | {run.library: run.latency for run in result.libraries}
        for library, ratio in times.items():
            if ratio is not None:
                numbers = {"value": ratio.value, "se": ratio.se, "n": ratio.n, "unit": ratio.unit}
                rows.append({**of, "quantity": f"latency_{library}", **numbers})
        rows.append({**of, "quantity": "nonfinite_positions", "value": result.nonfinite_positions, "unit": ""})
        for name, estimate in result.fidelity.items():
            numbers = {"value": estimate.value, "se": estimate.se, "n": estimate.n, "unit": estimate.unit}
            rows.append({**of, "quantity": name, **numbers, "low": estimate.low, "high": estimate.high})
    columns = [*header, "precision", "role", "quantity", "value", "se", "n", "unit", "low", "high"]
    # Objects, so that a count stays a whole number in a column that also holds fractions.
    return csv(pd.DataFrame(rows, columns=columns, dtype=object))


def tensors_csv(report: Report) -> bytes:
    """The stored tensors of every precision."""
    header = {"model": report.spec.model, "created": report.created}
    frames = [tensors(result).assign(precision=result.precision, **header) for result in measured(report)]
    return csv(pd.concat(frames, ignore_index=True))
