"""What the page Layers is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass

from qfund.checkpoints import catalog
from qfund.core import parameters
from qfund.core.errors import InvalidSpec
from qfund.core.parameters import Meant, Parameter, Query, count, last, names, number, text
from qfund.features.layers.request import asked
from qfund.features.layers.request.asked import DEFAULT_PRECISIONS, DEFAULT_TOKENS
from qfund.features.layers.request.examples import BITS
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.recipe import ALIKE, SCORES, RecipeRequest
from qfund.features.layers.request.swaps import PARTS, SwapsRequest
from qfund.features.memory.request import budgets
from qfund.features.memory.request.fits import MAX_CONTEXT
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
#: What bounds a recipe, as it stands in an address, and how it is offered.
LIMITS = {
    "bits": "Bits per weight",
    "size": "Bytes of the model",
    "gpu": "What a GPU has",
    "kl": "KL divergence",
    "changed": "Changed tokens",
}
#: Floats that everything else may stay in.
REFERENCES = ("fp32", "bf16", "fp16")
NONE = "none"
#: The least and the most of a number.
RANGES = {"bits": (0.5, 64.0), "kl": (1e-6, 10.0), "changed": (1e-4, 0.9)}


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        limit: a name of ``LIMITS``: which of those after it bounds the recipe.
        bits, size: per weight, and bytes of the whole model.
        gpu, context: a GPU of ``qfund fits``, and the tokens of a sequence there.
        kl, changed: a mean KL divergence (nat), and a share of positions with another likeliest output.
        by, alike: how a recipe's damages are measured, and what has to be in one precision, as in its request.
        look: the precision that is looked at.
        gradient: whether gradients foretell what modules cost.
    """

    model: str = catalog.EXAMPLE
    revision: str | None = None
    reference: str = "fp32"
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    also: tuple[str, ...] = ()
    tokens: int = DEFAULT_TOKENS
    part: str = "module"
    view: str = "swaps"
    limit: str = "bits"
    bits: float = BITS
    size: int = 8 * 2**20
    gpu: str = "rtx-4090"
    context: int = 8192
    kl: float = 0.01
    changed: float = 0.02
    by: str = "swaps"
    alike: tuple[str, ...] = ("qkv", "gate-up")
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
        bounds: dict[str, dict[str, object]] = {
            "bits": {"bits": self.bits},
            "size": {"budget": self.size},
            "gpu": {"gpu": self.gpu, "gpu_context": self.context},
            "kl": {"kl": self.kl},
            "changed": {"changed": self.changed},
        }
        more = {"by": self.by, "alike": self.alike}
        return RecipeRequest(**self._common() | more | bounds[self.limit])  # type: ignore[arg-type]

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


def _number(field: str, what: str, least: float, most: float) -> Parameter:
    def read(short: str, values: list[str]) -> Meant:
        found = number(last(values), least, most)
        return (found, []) if found is not None else (None, [f"Ignored {short}={last(values)[:40]!r}: no {what}."])

    return Parameter(field, lambda value: [f"{value!r}".removesuffix(".0")], read)


def _read_alike(short: str, values: list[str]) -> Meant:
    return ((), []) if values == [NONE] else _ALIKE.read(short, values)


def _read_size(short: str, values: list[str]) -> Meant:
    try:
        return budgets.parse_budget(last(values)), []
    except InvalidSpec:
        return None, [f"Ignored {short}={last(values)[:40]!r}: no amount of memory."]


#: What bounds a recipe → the choices that say how much.
_BOUNDS = {name: ("gpu", "context") if name == "gpu" else (name,) for name in LIMITS}
_ALIKE = names("alike", ALIKE)
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
    "limit": text("limit", LIMITS),
    "bits": _number("bits", "number of bits", *RANGES["bits"]),
    "size": Parameter("size", lambda value: [str(value)], _read_size),
    "gpu": text("gpu", budgets.GPUS),
    "ctx": count("context", 1, MAX_CONTEXT),
    "kl": _number("kl", "divergence", *RANGES["kl"]),
    "changed": _number("changed", "share", *RANGES["changed"]),
    "score": text("by", SCORES),
    "alike": Parameter("alike", lambda value: list(value) or [NONE], _read_alike),
    "look": text("look", _NAMES),
    "grad": Parameter("gradient", lambda value: ["1" if value else "0"], lambda _, values: (last(values) != "0", [])),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice, but bounds of a recipe that bound nothing and are as they come."""
    query, usual = parameters.to_query(asked, _PARAMETERS), Asked()
    bounding = _BOUNDS[asked.limit] if asked.view == "recipe" else ()
    idle = {name for names in _BOUNDS.values() for name in names if name not in bounding}
    return {
        short: values
        for short, values in query.items()
        if (field := _PARAMETERS[short].field) not in idle or getattr(asked, field) != getattr(usual, field)
    }


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    return parameters.from_query(Asked(), _PARAMETERS, query)


ADDRESS = Address("layers", to_query, from_query)
