"""Bits that a candidate takes: for each parameter of the model, and for each weight that was quantised."""

from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.precisions.caches import weights_of
from qfund.precisions.table import PRECISIONS


def parameter_bits(report: Report, result: PrecisionResult) -> float | None:
    """Stored bits of the whole model, scales and buffers included, for each of its parameters."""
    return 8 * result.footprint_bytes / report.model.parameters if report.model.parameters else None


def weight_bits(result: PrecisionResult) -> float | None:
    """What one weight takes, scales and zero-points included: as counted, or the width of a cast."""
    if result.bits_per_weight is not None:
        return result.bits_per_weight
    row = PRECISIONS.get(weights_of(result.precision))
    return float(row.bits) if row is not None and row.quantizer is None and row.bits else None
