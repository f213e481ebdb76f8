"""What a sweep will take before anything is measured: what is there already, bytes, time, and what cannot be done."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qfund.core.errors import QfundError
from qfund.engine import key_of
from qfund.features.compare.request import duration
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.duration import Size
from qfund.features.sweep.request.sweep import Item, Refused

_CONTEXT = 512  # tokens of a chunk where only headers are known


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of a plan.

    Attributes:
        item: None of what cannot be done, of which ``why`` says why.
        key: of the stored result, there or to come.
        bytes: of the checkpoint's tensors on disk; ``parameters`` are counted in its headers.
        seconds: that it takes on this machine, 0 of what is stored; None where that is not known.
        first_guess: whether ``seconds`` follows from nothing that was measured here.
    """

    model: str
    name: str
    item: Item | None = None
    key: str = ""
    stored: bool = False
    bytes: int | None = None
    parameters: int | None = None
    seconds: float | None = None
    first_guess: bool = True
    why: str = ""

    @property
    def missing(self) -> bool:
        """Whether it is to be measured."""
        return self.item is not None and not self.stored


def plan(
    found: Iterable[Item | Refused], stored: Callable[[str], bool], before: Sequence[Costs]
) -> tuple[Planned, ...]:
    """A line for each comparison.

    Args:
        stored: whether there is a result under a key.
        before: what earlier comparisons on this machine took, the newest first.
    """
    return tuple(_planned(each, stored, before) for each in found)


def _planned(found: Item | Refused, stored: Callable[[str], bool], before: Sequence[Costs]) -> Planned:
    if isinstance(found, Refused):
        return Planned(found.model, found.name, why=found.why)
    spec, read = found.spec, found.headers
    try:
        key = key_of(spec)
    except QfundError as error:
        return Planned(spec.model, found.name, why=str(error))
    there = stored(key)
    size = duration.size_of(spec) or (Size(read.elements, 0, _CONTEXT) if read and read.elements else None)
    took = duration.estimate(spec, size, before) if size is not None and not there else None
    return Planned(
        spec.model,
        found.name,
        found,
        key,
        there,
        read.stored_bytes if read else None,
        read.elements if read else None,
        0.0 if there else took.seconds if took else None,
        took is None or not took.measured,
    )


@dataclass(frozen=True, slots=True)
class Total:
    """Of a plan: how many are stored, to be measured and refused; ``seconds`` of those whose time is known, and how
    many it is not known of; ``bytes`` of each checkpoint once."""

    stored: int
    missing: int
    refused: int
    seconds: float
    unknown: int
    bytes: int


def total(lines: Iterable[Planned]) -> Total:
    rows = list(lines)
    missing = [row for row in rows if row.missing]
    checkpoints = {(row.model, row.item.spec.revision): row.bytes or 0 for row in rows if row.item is not None}
    return Total(
        stored=sum(row.stored for row in rows),
        missing=len(missing),
        refused=sum(row.item is None for row in rows),
        seconds=sum(row.seconds or 0.0 for row in missing),
        unknown=sum(row.seconds is None for row in missing),
        bytes=sum(checkpoints.values()),
    )
