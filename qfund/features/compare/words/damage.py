"""What pictures of damage do not show, in sentences."""

from typing import TYPE_CHECKING

from qfund.core.units import number_text
from qfund.drawing.phrases import FEW, label, listed
from qfund.features.compare.request.report import Report

if TYPE_CHECKING:
    import pandas as pd


def missing_phrase(report: Report, frame: "pd.DataFrame") -> str:
    """Which candidates ``figures.memory_against_damage`` cannot draw on its axis, and why."""
    zero = [label(name) for name in frame["precision"][frame["value"] <= 0]]
    missing = [result for result in report.results if result.precision not in set(frame["precision"])]
    wide = [row for row in missing if row.fidelity and row.footprint_bytes > report.reference.footprint_bytes]
    larger = [label(result.precision) for result in wide]
    broken = [label(result.precision) for result in missing if result not in wide]
    parts = []
    if zero and len(zero) < len(frame):
        has = "has" if len(zero) == 1 else "have"
        parts.append(f"{listed(zero)} {has} a loss of exactly 0, which no logarithmic axis shows.")
    if broken:
        parts.append(f"{listed(broken)} {'is' if len(broken) == 1 else 'are'} not finite and so not in the picture.")
    if larger:
        takes = "takes" if len(larger) == 1 else "take"
        parts.append(f"{listed(larger)} {takes} more memory than the reference and would be far to the right.")
    return " ".join(parts)


def equal_phrase(report: Report) -> str:
    """How much of the outputs does not differ at all."""
    parts: dict[str, float] = {}
    for result in report.results:
        if result.differences is not None:
            outputs = sum(result.differences.counts) + result.differences.zeros
            if outputs:
                parts[label(result.precision)] = 100 * result.differences.zeros / outputs
    if not parts:
        return ""
    told = [f"{name} {share:.2g} %" for name, share in parts.items()]
    if len(told) > FEW:
        least, most = min(parts, key=lambda name: parts[name]), max(parts, key=lambda name: parts[name])
        told = [f"from {parts[least]:.2g} % ({least}) to {parts[most]:.2g} % ({most})"]
    return f"Exactly equal, and so not in the picture: {', '.join(told)} of all outputs."


def noise_band(floor: float | None, drawn: bool) -> str:
    """What the band at the bottom of a picture means, or where it would be; nothing where there is none."""
    if floor is None:
        return ""
    if floor == 0:
        return "The reference, run again in other ways, gave exactly the same. "
    if not drawn:
        return f"The noise floor, {number_text(floor)}, is far below what is drawn. "
    return f"The grey band is the noise floor, {number_text(floor)}: below it nothing can be told. "
