"""What the captions of the page Outputs are asked for as one value, and that value as an address.

Given pictures are no part of an address: they stay in the session.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, count, last, names, text
from qfund.features.captions.request import (
    DEFAULT_PRECISIONS,
    DEFAULT_SAMPLES,
    DEFAULT_TOKENS,
    MAX_SAMPLES,
    MAX_TOKENS,
    MODEL,
    CaptionRequest,
    GivenPicture,
)
from qfund.precisions.table import PRECISIONS
from qfund.ui.pickers import OFFERED


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the view. With ``pictures`` the drawn ones are not asked for."""

    model: str = MODEL
    revision: str | None = None
    reference: str = "fp32"
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    samples: int = DEFAULT_SAMPLES
    tokens: int = DEFAULT_TOKENS
    pictures: tuple[GivenPicture, ...] = ()

    @property
    def request(self) -> CaptionRequest:
        return CaptionRequest(
            model=self.model,
            precisions=self.precisions,
            reference=self.reference,
            samples=0 if self.pictures else self.samples,
            pictures=self.pictures,
            max_new_tokens=self.tokens,
            revision=self.revision,
        )


def _read_reference(short: str, values: list[str]) -> Meant:
    value = last(values)
    return (value, []) if value in OFFERED else (None, [f"Ignored unknown {short}={value[:40]!r}."])


def in_order(names: list[str]) -> tuple[str, ...]:
    """Those that are offered, in the table's order."""
    return tuple(name for name in PRECISIONS if name in names and name in OFFERED)


_PARAMETERS = {
    "model": text("model", strip=True),
    "rev": text("revision", strip=True),
    "ref": Parameter("reference", lambda name: [name], _read_reference),
    "samples": count("samples", 1, MAX_SAMPLES),
    "tokens": count("tokens", 1, MAX_TOKENS),
    "p": names("precisions", in_order(list(OFFERED))),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice but given pictures."""
    return parameters.to_query(asked, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)
