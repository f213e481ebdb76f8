"""Libraries beside qfund's own models, in sentences."""

import math
from collections.abc import Callable

from qfund.core.estimate import Estimate
from qfund.drawing.numbers import estimate_text
from qfund.drawing.phrases import label, listed
from qfund.features.compare.request.report import LibraryRun, Report

#: A time that differs by at most this many standard errors is called no measurable difference.
SIGMAS = 2.0


def library_problems(report: Report) -> list[str]:
    """Why libraries could not run candidates, each reason once."""
    return _of_libraries(report, lambda run: run.problem)


def library_notes(report: Report) -> list[str]:
    """What is particular about how libraries store and run candidates, each note once."""
    return _of_libraries(report, lambda run: run.note)


def _of_libraries(report: Report, sentence: Callable[[LibraryRun], str | None]) -> list[str]:
    told: dict[tuple[str, str], list[str]] = {}
    for result in report.results:
        for run in result.libraries:
            if said := sentence(run):
                told.setdefault((run.library, said), []).append(label(result.precision))
    return [f"{listed(names)} with {library}: {said}" for (library, said), names in told.items()]


def latency_phrase(ratio: Estimate | None) -> str:
    """The time of a forward beside the reference's, said only as far as the error allows."""
    if ratio is None:
        return "not measured here"
    if not math.isfinite(ratio.value):
        return "not finite"
    if ratio.se is not None and abs(ratio.value - 1) <= SIGMAS * ratio.se:
        return f"no measurable difference (× {estimate_text(ratio)})"
    return f"× {estimate_text(ratio)}"
