"""What the page KV cache is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass

from qfund.checkpoints import catalog
from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, count, text
from qfund.features.kv.request import DEFAULT_KV, DEFAULT_TOKENS, MAX_TOKENS, KvRequest
from qfund.precisions.caches import known_kv
from qfund.ui.address import Address

#: Floats that weights may be in.
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page."""

    model: str = catalog.EXAMPLE
    revision: str | None = None
    precision: str = "fp32"
    kv: tuple[str, ...] = DEFAULT_KV
    tokens: int = DEFAULT_TOKENS
    first: int = 0
    window: int = 0

    @property
    def request(self) -> KvRequest:
        return KvRequest(
            model=self.model,
            kv=self.kv,
            precision=self.precision,
            max_tokens=self.tokens,
            first=self.first,
            window=self.window,
            revision=self.revision,
        )


def _read(short: str, values: list[str]) -> Meant:
    good, bad = known_kv(values)
    said = [f"Ignored unknown {short}={', '.join(repr(name[:40]) for name in bad)}."] if bad else []
    return good or None, said


#: In the address of any page that has caches to choose.
CACHES = Parameter("kv", list, _read)
_PARAMETERS = {
    "model": text("model", strip=True),
    "rev": text("revision", strip=True),
    "precision": text("precision", PRECISIONS),
    "kv": CACHES,
    "tokens": count("tokens", 2, MAX_TOKENS),
    "first": count("first", 0, MAX_TOKENS),
    "window": count("window", 0, MAX_TOKENS),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice."""
    return parameters.to_query(asked, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)


ADDRESS = Address("kv", to_query, from_query)
