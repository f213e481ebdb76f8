"""A recipe as a row: every module that it names in its own precision, all others as they were read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from qfund.core.errors import UnsupportedModel
from qfund.precisions.files import row_of
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.plan import Plan, kept_by, plan_conversion
from qfund.precisions.quantizers.quantizer import Chooser, Quantizer, quantizer_of
from qfund.precisions.recipes import RecipeFile
from qfund.precisions.table import PRECISIONS


@dataclass(frozen=True)
class Mixture:
    """A quantiser that is another row's for each module. Its ``repr`` tells it from every other: keys hold it."""

    modules: tuple[tuple[str, str], ...]

    @cached_property
    def _named(self) -> dict[str, str]:
        return dict(self.modules)

    @property
    def element(self) -> str:
        return "mixed"

    def choose(self, model: nn.Module, names: Sequence[Sequence[str]], columns: Sequence[int]) -> list[Quantizer]:
        """The quantiser of the row that the recipe names for one of a weight's places."""
        named = self._named
        rows = [next(named[_module(name)] for name in shared if _module(name) in named) for shared in names]
        found: dict[int, Quantizer] = {}
        for row in dict.fromkeys(rows):
            places = [place for place, name in enumerate(rows) if name == row]
            quantizer = quantizer_of(PRECISIONS[row])
            assert quantizer is not None
            chosen = [quantizer] * len(places)
            if isinstance(quantizer, Chooser):
                chosen = list(quantizer.choose(model, [names[i] for i in places], [columns[i] for i in places]))
            found |= dict(zip(places, chosen, strict=True))
        return [found[place] for place in range(len(rows))]

    def kept(self, name: str, module: nn.Module, stack: bool) -> str | None:
        """As ``plan.Kept``: whatever the recipe does not name."""
        return None if _module(name) in self._named else "the recipe leaves it as it is"


def _module(weight: str) -> str:
    return weight.rpartition(".")[0]


def row_of_recipe(name: str, recipe: RecipeFile) -> Precision:
    """What stands for a recipe among the candidates, under the name that it has there."""
    mixture, base = Mixture(recipe.modules), PRECISIONS[recipe.reference]
    return replace(
        row_of(name),
        dtype=base.dtype,
        bits=max(PRECISIONS[row].bits for _, row in recipe.modules),
        meaning="A recipe: a precision for each module.",
        arithmetic=f"weights are dequantised before each multiplication, which runs in {base.label.lower()}",
        quantizer=mixture,
        kept=mixture.kept,
        every_matrix=True,
        storage="as the precision of each module says",
        granularity="as the precision of each module says",
    )


def planned(model: nn.Module, row: Precision, recipe: RecipeFile) -> Plan:
    """What a recipe converts in a model.

    Raises:
        UnsupportedModel: it names modules that the model has not, or whose weights nothing converts.
    """
    plan = plan_conversion(model, every_matrix=True, kept=kept_by(row))
    converted = set(plan.converted)
    if missing := [module for module, _ in recipe.modules if module not in converted]:
        raise UnsupportedModel(
            f"The recipe is of another architecture: {len(missing):,} of its {len(recipe.modules):,} modules are none "
            f"of {type(model).__name__} with a weight that can be converted (first {missing[0]}).",
            "Make a recipe for this model (`qfund recipe`), or name the model that it was made for.",
        )
    return plan
