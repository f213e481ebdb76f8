"""In what a checkpoint is stored, and whether a reference is wider than that."""

from qfund.features.compare.request.report import Report
from qfund.precisions.table import PRECISIONS

#: safetensors' name of a float dtype → what people call it, and its bits.
_STORED = {
    "F64": ("FP64", 64),
    "F32": ("FP32", 32),
    "BF16": ("BF16", 16),
    "F16": ("FP16", 16),
    "F8_E4M3": ("FP8", 8),
    "F8_E5M2": ("FP8", 8),
}


def stored_dtypes(report: Report) -> list[str]:
    """The dtypes that hold more than 1 % of the checkpoint, by safetensors' names, the largest first."""
    held = report.model.checkpoint_dtypes
    return [name for name in sorted(held, key=lambda name: -held[name]) if held[name] > 0.01 * sum(held.values())]


def stored_names(report: Report) -> list[str]:
    """The same as people call them."""
    return [_STORED[dtype][0] if dtype in _STORED else dtype for dtype in stored_dtypes(report)]


def upcast_from(report: Report) -> int | None:
    """Bytes of the checkpoint where the reference is an upcast of what it stores, so that half of the reference's
    memory would be no gain; else None."""
    stored, row = stored_dtypes(report), PRECISIONS.get(report.reference.precision)
    if not stored or row is None or row.quantizer or any(_STORED.get(name, ("", 99))[1] >= row.bits for name in stored):
        return None
    return sum(report.model.checkpoint_dtypes.values())
