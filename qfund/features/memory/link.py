"""What the page Memory is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass

from qfund.core import parameters
from qfund.core.errors import UnknownName
from qfund.core.parameters import Meant, Parameter, Query, count, last, names, text
from qfund.features.compare.request import examples
from qfund.features.memory.request import budgets, fits
from qfund.features.memory.request.budgets import MACHINE, recognized
from qfund.features.memory.request.fits import FitsRequest, Workload
from qfund.features.memory.request.load_peak import AS_STORED, LoadPeakRequest
from qfund.features.memory.request.plan import PlanRequest
from qfund.precisions.caches import canonical_kv
from qfund.precisions.precision import STORED
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS
from qfund.ui.address import Address

#: Names of the sections as they stand in an address, and their titles.
SECTIONS = {
    "fits": "Will it fit?",
    "sizes": "Sizes, explained",
    "loading": "Loading",
    "modules": "Modules",
    "data": "Data",
}
#: Any budget: rows of a workload are computed on the page, from what does not depend on it.
_ANY = Workload(budget=budgets.LARGEST)


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        budget: ``"machine"``, a name of ``GPUS``, or an amount as somebody typed it (``budgets.recognized``).
        kv: name of ``KV_CHOICES``; None for what each precision computes in.
        load: the precision whose ways to load are looked at.
    """

    model: str = examples.EXAMPLE.model
    revision: str | None = None
    also: tuple[str, ...] = ()
    precisions: tuple[str, ...] = fits.DEFAULT_PRECISIONS
    budget: str = MACHINE
    context: int = fits.DEFAULT_CONTEXT
    batch: int = 1
    kv: str | None = None
    load: str = "bf16"
    section: str = "fits"

    @property
    def plan(self) -> PlanRequest:
        """Of all precisions, so that choosing others starts no job."""
        return PlanRequest(self.model, _NAMES, self.also, self.revision)

    @property
    def fits(self) -> FitsRequest:
        """Of what does not depend on the workload."""
        return FitsRequest(self.model, _ANY, self.precisions, self.also, self.revision)

    def load_peaks(self, precision: str) -> LoadPeakRequest:
        """Of one precision, so that each is measured once, whatever stands beside it."""
        return LoadPeakRequest(self.model, (precision,), revision=self.revision)

    def workload(self) -> Workload:
        """With the budget in bytes.

        Raises:
            QfundError: the budget or a number cannot be.
        """
        runtime = "cpu" if self.budget == MACHINE else "cuda"
        found = Workload(budgets.budget(self.budget), self.context, self.batch, self.kv, runtime)
        return fits.checked_workload(found)


def _kv(short: str, values: list[str]) -> Meant:
    if not (value := last(values)[:40]):
        return None, []
    try:
        return canonical_kv(value), []
    except UnknownName as error:
        return None, [f"Ignored {short}={value!r}. {error.remedy}"]


_NAMES = tuple(name for name, row in PRECISIONS.items() if row.family != STORED)
_PARAMETERS = {
    "model": text("model"),
    "rev": text("revision"),
    "budget": Parameter("budget", lambda name: [name], lambda short, values: (recognized(last(values)) or None, [])),
    "kv": Parameter("kv", lambda value: [str(value or "")], _kv),
    "load": text("load", (*_NAMES, AS_STORED[0])),
    "section": text("section", SECTIONS),
    "context": count("context", 1, fits.MAX_CONTEXT),
    "batch": count("batch", 1, fits.MAX_BATCH),
    "p": names("precisions", _NAMES),
    "also": names("also", ALSO),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice."""
    return parameters.to_query(asked, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)


ADDRESS = Address("memory", to_query, from_query)
