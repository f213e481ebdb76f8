"""The modules of a model that precisions convert, and where each stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import about
from qfund.models import meta
from qfund.models.footprint import Footprint
from qfund.models.match.names import match, untie
from qfund.precisions.precision import Precision
from qfund.precisions.quantizers.plan import View, plan_conversion, plan_of
from qfund.stream import units
from qfund.stream.units import BLOCK


@dataclass(frozen=True, slots=True)
class Place:
    """A module with a weight that can be converted: ``key`` of it, read as a matrix [out, in] by ``view``. ``tied``
    are the modules that share the weight, itself included: they change together."""

    name: str
    key: str
    view: View
    shape: tuple[int, int]
    block: int | None
    block_name: str
    tied: tuple[str, ...]

    @property
    def kind(self) -> str:
        """``q_proj``."""
        parts = [part for part in self.name.split(".") if not part.isdigit()]
        return parts[-1] if parts else self.name

    def matrix(self, model: Any) -> Any:
        """The weight as a matrix."""
        return self.view.flat(getattr(model.get_submodule(self.name), self.key))


@dataclass(frozen=True, slots=True)
class Places:
    """Of one model, in its order, and the names of those that each precision converts."""

    every: Mapping[str, Place]
    of: Mapping[str, tuple[str, ...]]

    def sizes(self, counted: Footprint) -> dict[str, int]:
        """Module → bytes of its own tensors."""
        held = counted.by_module
        return {name: held.get(name, 0) for name in self.every}

    def together(self, names: Sequence[str]) -> tuple[str, ...]:
        """These modules, and those that share a weight with one of them, in the model's order."""
        wanted = {other for name in names for other in self.every[name].tied}
        return tuple(name for name in self.every if name in wanted)


def find(checkpoint: Checkpoint, rows: Sequence[Precision], also: tuple[str, ...]) -> Places:
    """Of a cast, which changes every weight, those that a quantiser could convert.

    Raises:
        NothingConverted: a precision converts nothing in this model.
    """

    model = meta.build(checkpoint, torch.float32)
    untie(model, match(checkpoint, model, torch.float32).untied)
    plain = plan_conversion(model, also)
    plans = {}
    for row in rows:
        with about(row.name):
            plans[row.name] = plan_of(model, row, also) if row.quantizer else plain
    blocks = [unit for unit in units.find(model).streamed.values() if unit.kind == BLOCK]
    block_of = {name: number for number, unit in enumerate(blocks) for name in unit.modules}
    found: dict[str, Place] = {}
    for plan in plans.values():
        for group in plan.groups:
            tied = tuple(dict.fromkeys(weight.module for weight in group))
            for weight in group:
                shape = weight.view.shape(getattr(model.get_submodule(weight.module), weight.key).shape)
                number = block_of.get(weight.module)
                block = "" if number is None else blocks[number].name
                # A module with several weights (stacked experts) stands under its largest.
                held = found.get(weight.module)
                if held is None or held.shape[0] * held.shape[1] < shape[0] * shape[1]:
                    found[weight.module] = Place(weight.module, weight.key, weight.view, shape, number, block, tied)
    order = [name for name, _ in model.named_modules() if name in found]
    return Places(
        {name: found[name] for name in order},
        {name: _in_order(order, plan.converted) for name, plan in plans.items()},
    )


def _in_order(order: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    held = set(names)
    return tuple(name for name in order if name in held)
