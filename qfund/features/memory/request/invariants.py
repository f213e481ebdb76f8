"""What must hold within every plan and every answer to whether a model fits."""

from qfund.core.consistency import must_agree
from qfund.features.memory.request.fits import PARTS, Fits
from qfund.features.memory.request.plan import Plan

_ROUNDING = 1e-9


def consistent_plan(plan: Plan) -> None:
    """
    Raises:
        EngineError: two numbers of the plan contradict each other.
    """
    held = sum(module.parameters for module in plan.modules)
    must_agree("the model", "it has", plan.parameters, "parameters of its modules sum to", held)
    for entry in plan.entries:
        where, predicted = f"bytes of {entry.precision}", entry.predicted_bytes
        must_agree(where, "predicted are", predicted, "parts sum to", sum(entry.parts.values()))
        dtypes = sum(share.bytes for share in entry.dtypes.values())
        must_agree(where, "predicted are", predicted, "dtypes sum to", dtypes)
        must_agree(where, "predicted are", predicted, "modules sum to", sum(entry.module_bytes))
        if plan.fp32_bytes:
            of_fp32 = entry.ratio * plan.fp32_bytes
            must_agree(where, "predicted are", predicted, "ratio times those of fp32 is", of_fp32, _ROUNDING)


def consistent_fits(found: Fits) -> None:
    """
    Raises:
        EngineError: two numbers of the answer contradict each other.
    """
    weights = {row.precision: row for row in found.weights}
    for row in found.rows:
        where, total = f"bytes of {row.precision}", row.total.bytes
        must_agree(where, "all are", total, "parts sum to", sum(getattr(row, part).bytes for part in PARTS))
        must_agree(where, "left are", row.headroom, "budget less all is", found.request.workload.budget - total)
        parts = sum(weights[row.precision].parts.values())
        must_agree(f"weights of {row.precision}", "they are", row.weights.bytes, "parts sum to", parts)
