"""All comparisons that this visitor may see, in numbers, and what a margin makes of them; worked out once for each."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from qfund.features.compare.request.listing import Saved
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.features.sweep.request.ranking import Line, lines
from qfund.ui import services

#: Reports that are ranked at most, the newest.
MOST = 2000
#: What is remembered: some kilobytes each.
_KEPT = 20_000
_lines: "OrderedDict[tuple[str, str, Margin], list[Line]]" = OrderedDict()


def there() -> dict[str, Saved]:
    """By key: stored ones, then those that ship.

    Raises:
        StoreError: the database refuses.
    """
    rows = {row.key: row for row in services.listed("compare", MOST)}
    return rows | {row.key: row for row in services.shipped_lines("compare") if row.key not in rows}


def ranked(rows: Iterable[Saved], margin: Margin, names: dict[str, str] | None = None) -> list[Line]:
    """A line for each candidate; ``names``: what the inputs of some keys are called."""
    return [line for row in rows for line in _of(row, margin, (names or {}).get(row.key, ""))]


def _of(row: Saved, margin: Margin, name: str) -> list[Line]:
    held = _lines.get((row.key, row.created, margin))
    if held is None:
        report: Report | None = row.numbers or services.stored("compare", row.key)  # older lines lack the numbers
        held = lines(row.key, report, margin) if report is not None else []
        _lines[row.key, row.created, margin] = held
        while len(_lines) > _KEPT:
            _lines.popitem(last=False)
    return [replace(line, text=name) for line in held] if name else held


def spec_of(row: Saved) -> Spec | None:
    """What was compared, whole; None where it is no longer there."""
    if row.numbers is not None and row.text is None:
        return row.numbers.spec
    report: Report | None = services.stored("compare", row.key)
    return None if report is None else report.spec
