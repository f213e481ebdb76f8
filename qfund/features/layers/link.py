"""What the page Layers is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass

from qfund.checkpoints import catalog
from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, count, last, names, number, text
from qfund.features.layers.request import asked
from qfund.features.layers.request.asked import DEFAULT_PRECISIONS, DEFAULT_TOKENS
from qfund.features.layers.request.examples import BITS
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.recipe import RecipeRequest
from qfund.features.layers.request.swaps import PARTS, SwapsRequest
from qfund.precisions.precision import STORED
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS
from qfund.ui.address import Address

#: Names of the views as they stand in an address, and their titles.
VIEWS = {
    "swaps": "What parts cost",
    "modules": "Each alone",
    "recipe": "Recipe",
}
#: Floats that everything else may stay in.
REFERENCES = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page. ``bits``: of the recipe, per weight; ``look``: the precision that is looked at;
    ``gradient``: whether gradients foretell what modules cost."""

    model: str = catalog.EXAMPLE
    revision: str | None = None
    reference: str = "fp32"
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    also: tuple[str, ...] = ()
    tokens: int = DEFAULT_TOKENS
    part: str = "module"
    view: str = "swaps"
    bits: float = BITS
    look: str | None = None
    gradient: bool = True

    @property
    def layers(self) -> LayersRequest:
        return LayersRequest(**self._common(), gradient=self.gradient)  # type: ignore[arg-type]

    @property
    def swaps(self) -> SwapsRequest:
        return SwapsRequest(**self._common(), part=self.part)  # type: ignore[arg-type]

    @property
    def recipe(self) -> RecipeRequest:
        return RecipeRequest(**self._common(), bits=self.bits)  # type: ignore[arg-type]

    @property
    def looked_at(self) -> str:
        """The precision that sentences are about: the one of most damage unless another is chosen."""
        known = [name for name in PRECISIONS if name in self.precisions and name != self.reference]
        return self.look if self.look in known else min(known, key=lambda name: PRECISIONS[name].bits, default="int4")

    def _common(self) -> dict[str, object]:
        return {
            "model": self.model,
            "precisions": self.precisions,
            "reference": self.reference,
            "max_tokens": self.tokens,
            "revision": self.revision,
            "also": self.also,
        }


def _read_bits(short: str, values: list[str]) -> Meant:
    found = number(last(values), 0.5, 64)
    return (found, []) if found is not None else (None, [f"Ignored {short}={last(values)[:40]!r}: no number of bits."])


_NAMES = tuple(name for name, row in PRECISIONS.items() if row.family != STORED)
_PARAMETERS = {
    "model": text("model", strip=True),
    "rev": text("revision", strip=True),
    "ref": text("reference", REFERENCES),
    "p": names("precisions", _NAMES),
    "also": names("also", ALSO),
    "tokens": count("tokens", 2, asked.MAX_TOKENS),
    "part": text("part", PARTS),
    "view": text("view", VIEWS),
    "bits": Parameter("bits", lambda value: [f"{value:g}"], _read_bits),
    "look": text("look", _NAMES),
    "grad": Parameter("gradient", lambda value: ["1" if value else "0"], lambda _, values: (last(values) != "0", [])),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice."""
    return parameters.to_query(asked, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)


ADDRESS = Address("layers", to_query, from_query)
