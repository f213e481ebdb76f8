"""What the page Memory is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import streamlit as st

from qfund import budgets, catalog, fits
from qfund.budgets import GPUS
from qfund.errors import QfundError
from qfund.fits import FitsRequest, Workload
from qfund.kv_cache import KV_CHOICES
from qfund.load_peaks import LoadPeakRequest
from qfund.plan import PlanRequest
from qfund.precisions import PRECISIONS, STORED
from qfund.spec import ALSO

MACHINE = "machine"
#: Names of the sections as they stand in an address, and their titles.
SECTIONS = {
    "fits": ":material/fit_screen: Will it fit?",
    "sizes": ":material/stacked_bar_chart: Sizes, explained",
    "loading": ":material/area_chart: Loading",
    "modules": ":material/dashboard: Modules",
    "data": ":material/download: Data",
}
#: Any budget: rows of a workload are computed on the page, from what does not depend on it.
_ANY = Workload(budget=budgets.LARGEST)
_ASKED, _QUERY, _PROBLEMS = "memory_asked", "memory_query", "memory_problems"


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        budget: ``"machine"``, a name of ``GPUS``, or an amount as somebody typed it.
        kv: name of ``KV_CHOICES``; None for what each precision computes in.
        load: the precision whose ways to load are looked at.
    """

    model: str = catalog.EXAMPLE.model
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
        here = self.budget == MACHINE
        if here:
            budget = budgets.machine_memory()
        else:
            budget = GPUS[self.budget].bytes if self.budget in GPUS else budgets.parse_budget(self.budget)
        found = Workload(budget, self.context, self.batch, self.kv, "cpu" if here else "cuda")
        return fits.checked_workload(found)


_TEXTS = {"model": "model", "rev": "revision", "budget": "budget", "kv": "kv", "load": "load", "section": "section"}
_NAMES = tuple(name for name, row in PRECISIONS.items() if row.family != STORED)
_NUMBERS = {"context": fits.MAX_CONTEXT, "batch": fits.MAX_BATCH}
_LISTS = {"p": "precisions", "also": "also"}
_CHOICES = {"kv": KV_CHOICES, "load": _NAMES, "section": tuple(SECTIONS)}


def to_query(asked: Asked) -> dict[str, list[str]]:
    """Query parameters that name every choice."""
    query = {short: [str(getattr(asked, name) or "")] for short, name in _TEXTS.items()}
    query |= {name: [str(getattr(asked, name))] for name in _NUMBERS}
    query |= {short: list(getattr(asked, name)) for short, name in _LISTS.items()}
    # An empty list of values would not come back.
    return {name: values for name, values in query.items() if values and values != [""]}


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    asked, problems = Asked(), []
    for short, values in query.items():
        value = values[-1][:1024] if values else ""
        if short in _NUMBERS:
            if value.isascii() and value.isdigit() and 1 <= int(value[:20]) <= _NUMBERS[short]:
                asked = replace(asked, **{short: int(value)})  # type: ignore[arg-type]
            else:
                problems.append(f"Ignored {short}={value[:40]!r}: no number from 1 to {_NUMBERS[short]:,}.")
        elif short in _LISTS:
            known = ALSO if short == "also" else _NAMES
            if ignored := [name for name in values if name not in known]:
                problems.append(f"Ignored unknown {short}={', '.join(repr(name[:40]) for name in ignored)}.")
            if found := tuple(name for name in known if name in values):
                asked = replace(asked, **{_LISTS[short]: found})  # type: ignore[arg-type]
        elif short in _TEXTS:
            if value and value not in _CHOICES.get(short, (value,)):
                problems.append(f"Ignored {short}={value[:40]!r}. Available: {', '.join(_CHOICES[short])}.")
            elif value:
                asked = replace(asked, **{_TEXTS[short]: value})  # type: ignore[arg-type]
        else:
            problems.append(f"Ignored unknown link parameter: {short[:40]}.")
    return asked, problems


def _current() -> dict[str, list[str]]:
    return {name: st.query_params.get_all(name) for name in st.query_params}


def opened() -> tuple[Asked, bool]:
    """What the address asks for, and whether that is new, so that the widgets begin at it."""
    state, query = st.session_state, _current()
    if _ASKED in state and query in ({}, state[_QUERY]):
        return state[_ASKED], False
    asked, state[_PROBLEMS] = from_query(query)
    show(asked)
    return asked, True


def show(asked: Asked) -> None:
    """Make the address name these choices."""
    state, query = st.session_state, to_query(asked)
    if state.get(_ASKED) not in (None, asked) and _QUERY in state:
        state[_PROBLEMS] = []  # somebody has chosen something else than the link
    if _current() != query:
        st.query_params.from_dict(query)
    state[_ASKED], state[_QUERY] = asked, _current()


def problems() -> list[str]:
    """What had to be ignored in the link that was opened."""
    found: list[str] = st.session_state.get(_PROBLEMS, [])
    return found


def address(asked: Asked) -> str:
    """The complete link of this page."""
    base = (st.context.url or "").split("?")[0].rstrip("/")
    return f"{base}?{urlencode(to_query(asked), doseq=True)}"


def names_a_folder(asked: Asked) -> bool:
    """Whether the link names a folder on this machine, and so opens nowhere else."""
    try:
        return catalog.locate(asked.model, asked.revision).kind == "folder"
    except QfundError:
        return False


def current() -> Asked:
    """What the address names now."""
    found: Asked = st.session_state[_ASKED]
    return found
