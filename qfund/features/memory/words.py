"""Plans, fits and load peaks → plain sentences."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qfund.core.units import bytes_text
from qfund.drawing import phrases
from qfund.features.memory.request.fits import Fits, Row, Shape, Workload
from qfund.features.memory.request.load_peak import NOT_SAMPLED, TINY, WAYS, LoadPeaks
from qfund.features.memory.request.plan import HeaderPlan, Plan
from qfund.precisions.table import PRECISIONS

if TYPE_CHECKING:
    import pandas as pd


def beyond_training(rows: Iterable[Row], shape: Shape) -> str | None:
    """Said where memory would allow longer contexts than the model was made for."""
    if shape.trained is None or all(row.longest_context <= shape.trained for row in rows):
        return None
    return f"Memory would allow longer contexts, but this model was made for {shape.trained:,} positions."


def longest_context(row: Row, shape: Shape) -> int:
    """Tokens of each sequence that fit and that the model was made for; 0 where none does."""
    return min(row.longest_context, shape.trained or row.longest_context)


def left_alone(found: Fits) -> list[str]:
    """What precisions leave unconverted, but the one that is chosen, whose sentence says it."""
    rest = (row for row in found.weights if row.stays and row.stays not in found.choice.sentence)
    return [f"{phrases.label(row.precision)}: {row.stays}." for row in rest]


def heap(workload: Workload) -> list[str]:
    """What the estimate of activations leaves out on a CPU: docs/numbers.md says how it was measured."""
    if workload.runtime != "cpu":
        return []
    return [
        "On Linux, glibc's heap may keep memory that was freed: a process can need up to about twice the activations "
        "shown, unless it runs with MALLOC_MMAP_THRESHOLD_=131072."
    ]


def load_needs(found: LoadPeaks, name: str) -> str:
    """Each way to load in one precision: ``BF16: loading it directly needs 0.50 times …, casting after …``."""
    label = PRECISIONS[name].label
    if found.weights_bytes < TINY:
        return f"{label}: the model is too small to tell the ways of loading it apart."
    said = [
        f"{WAYS[one.way].phrase}{' needs' * (not number)} {one.sampled.multiples['need']:.2f}"
        f"{f' times the bytes of {found.unit}' * (not number)}"
        for number, one in enumerate(row for row in found.ways if row.precision == name and row.sampled)
        if one.sampled
    ]
    if not said:
        return f"{label}: {NOT_SAMPLED if not found.reference.sampled else 'no way could be measured'}."
    return f"{label}: {', '.join(said)}."


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
    """What lies between the sizes of ``tables.steps``: ``scales and zero-points: +216 KiB; …``."""
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
