"""What the page Speed is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qfund.checkpoints import catalog
from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, count, last, names, number, text, whole_number
from qfund.features.memory.request.budgets import GPUS
from qfund.features.speed.request.speed import (
    DEFAULT_BATCHES,
    DEFAULT_DEPTHS,
    DEFAULT_NEW,
    DEFAULT_PRECISIONS,
    DEFAULT_ROUNDS,
    MAX_BATCH,
    MAX_DEPTH,
    MAX_NEW,
    MAX_ROUNDS,
    MOST_POINTS,
    RUNNERS,
    SpeedRequest,
)
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS
from qfund.ui.address import Address


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page. ``gpu`` and ``price`` (of an hour; 0 is none) change no measurement."""

    model: str = catalog.EXAMPLE
    revision: str | None = None
    reference: str = "fp32"
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    backends: tuple[str, ...] = ()
    depths: tuple[int, ...] = DEFAULT_DEPTHS
    batches: tuple[int, ...] = DEFAULT_BATCHES
    new_tokens: int = DEFAULT_NEW
    rounds: int = DEFAULT_ROUNDS
    gpu: str | None = None
    price: float = 0.0
    files: tuple[str, ...] = ()

    @property
    def request(self) -> SpeedRequest:
        """Of a GGUF file alone without what only an original has."""
        if (only := SpeedRequest(self.model, (), files=self.files)).alone:
            return replace(
                only, depths=self.depths, batches=self.batches, new_tokens=self.new_tokens, rounds=self.rounds
            )
        return SpeedRequest(
            model=self.model,
            precisions=self.precisions,
            reference=self.reference,
            backends=self.backends,
            depths=self.depths,
            batches=self.batches,
            new_tokens=self.new_tokens,
            rounds=self.rounds,
            revision=self.revision,
            files=self.files,
        )


def _counts(field: str, most: int) -> Parameter:
    """Some whole numbers, in order."""

    def read(short: str, values: list[str]) -> Meant:
        found = {value: whole_number(value, 1, most) for value in values}
        good = sorted({value for value in found.values() if value is not None})[:MOST_POINTS]
        bad = [value for value, meant in found.items() if meant is None]
        return tuple(good) or None, [f"Ignored {short}={value[:40]!r}: no number from 1 to {most:,}." for value in bad]

    return Parameter(field, lambda values: list(map(str, values)), read)


def _read_price(short: str, values: list[str]) -> Meant:
    found = number(last(values), 0, 1e6)
    return (found, []) if found is not None else (None, [f"Ignored {short}={last(values)[:40]!r}: no price."])


_NAMES = tuple(name for name, row in PRECISIONS.items() if row.family != STORED)
_PARAMETERS = {
    "model": text("model", strip=True),
    "rev": text("revision", strip=True),
    "ref": text("reference", _NAMES),
    "p": names("precisions", _NAMES),
    "by": names("backends", RUNNERS),
    "depth": _counts("depths", MAX_DEPTH),
    "batch": _counts("batches", MAX_BATCH),
    "new": count("new_tokens", 1, MAX_NEW),
    "rounds": count("rounds", 1, MAX_ROUNDS),
    "file": Parameter("files", list, lambda short, values: (tuple(dict.fromkeys(filter(None, values))) or None, [])),
    "gpu": text("gpu", GPUS),
    "price": Parameter("price", lambda value: [f"{value:g}"] if value else [], _read_price),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice."""
    return parameters.to_query(asked, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)


ADDRESS = Address("speed", to_query, from_query)
