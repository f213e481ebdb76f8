"""What must hold within every report, whatever was measured."""

import math

from qfund.core.consistency import must_agree
from qfund.features.compare.request.report import PrecisionResult, Report

#: Of statistics: sums are made in another order.
_ROUNDING = 1e-6


def consistent(report: Report) -> None:
    """
    Raises:
        EngineError: two numbers of the report contradict each other.
    """
    for result in (report.reference, *report.results):
        _bytes(result)
        _perplexities(result, report.reference)
    held = sum(share.parameters for share in report.reference.dtypes.values())
    must_agree("the model", "it has", report.model.parameters, "parameters by dtype sum to", held)


def _bytes(result: PrecisionResult) -> None:
    """Counted is predicted, and every way of splitting it sums to it."""
    where, counted = f"bytes of {result.precision}", result.footprint_bytes
    if result.predicted_bytes is not None:
        must_agree(where, "counted are", counted, "predicted were", result.predicted_bytes)
    must_agree(where, "counted are", counted, "parts sum to", sum(result.parts.values()))
    dtypes = sum(share.bytes for share in result.dtypes.values())
    must_agree(where, "counted are", counted, "dtypes sum to", dtypes)
    if result.tensors:
        tensors = sum(row.bytes for row in result.tensors)
        must_agree(where, "counted are", counted, "tensors sum to", tensors)
    if result.converted_modules:
        where = f"modules of {result.precision}"
        must_agree(where, "converted are", result.converted, "named are", len(result.converted_modules))


def _perplexities(result: PrecisionResult, reference: PrecisionResult) -> None:
    """The ratio, its logarithm, the difference and the two perplexities are one statistic."""
    found = result.fidelity
    if "perplexity_ratio" not in found or "perplexity" not in found:
        return
    where = f"perplexity of {result.precision}"
    own, ratio = found["perplexity"], found["perplexity_ratio"].value
    if "ln_perplexity_ratio" in found:
        logarithm = found["ln_perplexity_ratio"].value
        must_agree(where, "the ratio is", ratio, "by its logarithm it is", _exp(logarithm), _ROUNDING)
    if "perplexity_diff" in found and ratio:
        difference = own.value - own.value / ratio
        # Relative to the perplexity: the difference itself may be all cancellation.
        must_agree(
            where,
            "perplexity less that of the reference, by the ratio, is",
            1 + difference / own.value,
            "by the difference it is",
            1 + found["perplexity_diff"].value / own.value,
            _ROUNDING,
        )
    base = reference.fidelity.get("perplexity")
    if base is not None and base.n == own.n and not (result.nonfinite_positions or reference.nonfinite_positions):
        must_agree(where, "it is", own.value, "ratio times the reference's is", ratio * base.value, _ROUNDING)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
