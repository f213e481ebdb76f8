"""What is stored, in sentences."""

import re
from collections import Counter
from collections.abc import Iterable

from qfund.core.units import bytes_text
from qfund.drawing.phrases import FEW, label, listed, plural
from qfund.features.compare.request.report import PrecisionResult
from qfund.precisions.caches import weights_of
from qfund.precisions.table import PRECISIONS

_SHORT = re.compile(r": | \(|, so |; ")


def conversion_phrase(result: PrecisionResult) -> str | None:
    """``44 modules were quantised; 2 stay: an embedding (1), the output head (1)``; None where nothing was to be
    quantised."""
    if not result.converted:
        return None
    row = PRECISIONS.get(weights_of(result.precision))
    done = "rounded" if row is not None and row.every_matrix else "quantised"
    said = f"{plural(result.converted, 'module')} {'was' if result.converted == 1 else 'were'} {done}"
    if not result.left:
        return said
    # A reason is said in short, up to where it explains itself.
    reasons = Counter(_SHORT.split(left.why, maxsplit=1)[0] for left in result.left_modules)
    told = [f"{why} ({count:,})" for why, count in reasons.most_common(FEW)]
    if others := sum(reasons.values()) - sum(count for _, count in reasons.most_common(FEW)):
        told.append(f"other reasons ({others:,})")
    return f"{said}; {result.left:,} {'stays' if result.left == 1 else 'stay'}" + (f": {', '.join(told)}" * bool(told))


def gap_phrase(result: PrecisionResult) -> str | None:
    """Why a prediction and the stored bytes differ, said only where they do."""
    if result.predicted_bytes is None:
        return f"{label(result.precision)} was not predicted: nothing foretells how a checkpoint was quantised."
    gap = result.footprint_bytes - result.predicted_bytes
    if not gap:
        return None
    more = "more" if gap > 0 else "less"
    return f"{label(result.precision)} takes {bytes_text(abs(gap))} {more} than shapes alone predict."


def transformers_phrase(results: Iterable[PrecisionResult]) -> str:
    """Where ``get_memory_footprint()`` says something else than is stored, and why it can."""
    names = [label(result.precision) for result in results if result.transformers_bytes != result.footprint_bytes]
    if not names:
        return ""
    return (
        f"For {listed(names)} the third figure is another one: it adds up what parameters and buffers claim to be, "
        "which for weights that are packed, tied or wrapped is not what is stored."
    )
