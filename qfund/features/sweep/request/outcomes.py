"""Comparisons done one after the other, where one that fails ends no other."""

from collections.abc import Callable, Iterable, Iterator

from qfund.core.errors import QfundError
from qfund.features.compare.request.report import Report
from qfund.features.sweep.request.plan import Planned
from qfund.features.sweep.request.ranking import Failed, Line, lines

Measure = Callable[[Planned], Report]


def outcomes(plan: Iterable[Planned], measure: Measure) -> Iterator[list[Line] | Failed]:
    """For each line of a plan what its report says, or why there is none."""
    for planned in plan:
        item = planned.item
        if item is None:
            yield Failed(planned.model, planned.name, planned.why)
            continue
        try:
            report = measure(planned)
        except QfundError as error:
            yield Failed(planned.model, planned.name, str(error))
            continue
        yield lines(planned.key, report, item.margin, planned.name)
        yield from (Failed(planned.model, planned.name, f"{name}: {why}") for name, why in report.refused.items())
