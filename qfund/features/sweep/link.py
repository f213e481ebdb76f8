"""What the page Sweep is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, count, text
from qfund.features.compare.request.link import MARGIN_NAMES, margin_from_query, margin_to_query
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.spec import DEFAULT_TOKENS, MAX_TOKENS
from qfund.features.sweep.request.sweep import Choices
from qfund.precisions.table import PRECISIONS
from qfund.ui.address import Address

STORED, LIST = "stored", "list"
#: Sizes of models to choose between, in parameters.
SIZES = {
    **{"0": 0.0, "1M": 1e6, "10M": 1e7, "100M": 1e8, "1B": 1e9, "3B": 3e9, "10B": 1e10, "30B": 3e10, "100B": 1e11},
    "any": float("inf"),
}
#: Characters of a list that an address holds, and names of architectures.
LONGEST, _NAMES = 4000, 40


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        source: ``"stored"`` for all that is there, or ``"list"``.
        listed: the list, as it was typed.
        candidates: of all models of the list; empty for what is usual for each.
        tokens: of each text.
        architectures, shown: architectures and precisions to look at; empty for all.
        least, most: names of ``SIZES``.
    """

    source: str = STORED
    listed: str = ""
    candidates: tuple[str, ...] = ()
    tokens: int = DEFAULT_TOKENS
    margin: Margin = field(default_factory=Margin)
    architectures: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    least: str = "0"
    most: str = "any"

    @property
    def shared(self) -> Choices:
        """What is chosen for all models of the list."""
        margin = tuple((name, getattr(self.margin, name)) for name in Margin.__slots__)
        return Choices(precisions=self.candidates or None, max_tokens=self.tokens, margin=margin)


def _architectures() -> Parameter:
    def read(short: str, values: list[str]) -> Meant:
        return tuple(dict.fromkeys(value[:100] for value in values if value))[:_NAMES] or None, []

    return Parameter("architectures", list, read)


_PARAMETERS = {
    "of": text("source", (STORED, LIST)),
    "list": text("listed", longest=LONGEST),
    "p": parameters.names("candidates", PRECISIONS),
    "tokens": count("tokens", 1, MAX_TOKENS),
    "arch": _architectures(),
    "show": parameters.names("shown", PRECISIONS),
    "least": text("least", tuple(SIZES)),
    "most": text("most", tuple(SIZES)),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice; but for a list that no address can hold."""
    query = parameters.to_query(asked, _PARAMETERS) | margin_to_query(asked.margin)
    if len(asked.listed) > LONGEST:
        del query["list"]
    return query


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    margin, ignored = margin_from_query(query)
    rest = {name: values for name, values in query.items() if name not in MARGIN_NAMES}
    asked, problems = parameters.from_query(Asked(margin=margin), _PARAMETERS, rest)
    return asked, [*ignored, *problems]


ADDRESS = Address("sweep", to_query, from_query)
