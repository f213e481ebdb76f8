"""What a model is compared in where nobody names precisions: with what it is stored in, and candidates that keep the
rest of the model in that. The checkpoint's headers tell; no weight is read."""

from qfund.core.errors import QfundError
from qfund.features.compare.request.spec import DEFAULT_CANDIDATES, Spec
from qfund.features.memory.request.plan import HeaderPlan, PlanRequest, from_headers
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

_CASTS = {"F64": "fp64", "F32": "fp32", "BF16": "bf16", "F16": "fp16"}
AS_STORED = next(row.name for row in PRECISIONS.values() if row.family == STORED)
#: Weights alone in fewer bits, the rest in 16.
ON_16_BITS = ("int8_bf16", "int4_bf16", "nf4_bf16")


def reference(model: str, revision: str | None = None) -> str:
    """The precision that holds most bytes of the checkpoint; ``"fp32"`` where that cannot be read, which measuring it
    will then say."""
    try:
        return of_headers(from_headers(PlanRequest(model, revision=revision)))
    except QfundError:
        return Spec(model).reference


def of_headers(headers: HeaderPlan) -> str:
    """The same, of headers that were read in every float cast."""
    if not headers.cast_bytes:  # only floats are cast
        return AS_STORED
    held = {dtype: share.bytes for dtype, share in headers.dtypes.items()}
    return _CASTS.get(max(held, key=lambda dtype: held[dtype], default=""), Spec(headers.model).reference)


def candidates(reference: str) -> tuple[str, ...]:
    """Those that stand beside a reference of that name."""
    if reference == AS_STORED:
        return (AS_STORED,)
    row = PRECISIONS.get(reference)
    return ON_16_BITS if row is not None and row.bits == 16 else DEFAULT_CANDIDATES
