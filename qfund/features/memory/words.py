"""Plans, fits and load peaks → plain sentences."""

from typing import TYPE_CHECKING

from qfund.core.units import bytes_text
from qfund.features.memory.request.plan import HeaderPlan, Plan

if TYPE_CHECKING:
    import pandas as pd


def count_text(count: int) -> str:
    """Parameters as people say them: ``4.07 M``, ``70.6 B``."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def stored_phrase(headers: HeaderPlan) -> str:
    """``F32 15.5 MiB``; several dtypes beside each other."""
    return ", ".join(f"{name} {bytes_text(share.bytes)}" for name, share in headers.dtypes.items())


def signed(count: int) -> str:
    return f"{'−' if count < 0 else '+'}{bytes_text(abs(count))}"


def differences(steps: "pd.DataFrame") -> str:
    """What lies between the sizes of ``memory_tables.steps``: ``scales and zero-points: +216 KiB; …``."""
    rows = steps.to_dict("records")
    return "; ".join(f"{row['label']}: {signed(row['end'] - row['start'])}" for row in rows if row["kind"] == "step")


def agreement(measured: dict[str, int], plan: Plan) -> str:
    """How the prediction held against what was counted in loaded models."""
    predicted = {entry.precision: entry.predicted_bytes for entry in plan.entries}
    known = [name for name in measured if name in predicted]
    if not known:
        return "Not measured yet in a loaded model: compare it once, and the counted bytes stand beside these."
    wrong = [name for name in known if measured[name] != predicted[name]]
    if not wrong:
        several = f"all {len(known)} precisions" if len(known) > 1 else "the one precision"
        return f"Predicted and counted in the loaded model agree to the byte in {several} measured so far."
    return (
        f"In {len(wrong)} of {len(known)} precisions measured so far the loaded model holds other bytes than predicted."
    )
