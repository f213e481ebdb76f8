"""Where a model is to run, and on how much at once. It changes no measurement, so it is no part of a ``Spec``."""

from collections.abc import Mapping
from dataclasses import dataclass

from qfund.core import parameters
from qfund.core.parameters import Parameter, Query, count, last
from qfund.features.memory.request import fits
from qfund.features.memory.request.budgets import GPUS, MACHINE, recognized


@dataclass(frozen=True, slots=True)
class Hardware:
    """``budget`` is ``"machine"`` (what is free on this one), a name of ``GPUS``, or an amount as somebody typed it;
    ``context`` are tokens of each sequence, None for what the model was made for, at most 4,096; ``batch`` are
    sequences at once."""

    budget: str = MACHINE
    context: int | None = None
    batch: int = 1

    def length(self, trained: int | None) -> int:
        """The context, for a model that was made for so many positions."""
        return self.context or min(trained or fits.DEFAULT_CONTEXT, fits.DEFAULT_CONTEXT)

    @property
    def name(self) -> str:
        """In a sentence: ``this machine``, ``your RTX 4090``, ``24GiB``."""
        if self.budget == MACHINE:
            return "this machine"
        gpu = GPUS.get(self.budget)
        return f"your {gpu.title.partition(',')[0].removeprefix('GeForce ')}" if gpu else self.budget


_PARAMETERS = {
    "budget": Parameter("budget", lambda name: [name], lambda short, values: (recognized(last(values)) or None, [])),
    "length": count("context", 1, fits.MAX_CONTEXT),
    "batch": count("batch", 1, fits.MAX_BATCH),
}
NAMES = frozenset(_PARAMETERS)


def to_query(hardware: Hardware, complete: bool = False) -> Query:
    """Link parameters: of what is not the default, or of everything."""
    usual = Hardware()
    changed = {name: row for name, row in _PARAMETERS.items() if complete or _of(hardware, row) != _of(usual, row)}
    changed = {name: row for name, row in changed.items() if _of(hardware, row) is not None}
    return parameters.to_query(hardware, changed)


def _of(hardware: Hardware, row: parameters.Parameter) -> object:
    return getattr(hardware, row.field)


def from_query(query: Mapping[str, list[str]]) -> tuple[Hardware, list[str]]:
    """What a link names, and a sentence for each part of it that had to be ignored."""
    return parameters.from_query(
        Hardware(), _PARAMETERS, {name: values for name, values in query.items() if name in NAMES}
    )
