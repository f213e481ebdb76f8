"""What a recipe chooses for: modules in groups of one precision, and what they take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qfund.core.errors import InvalidSpec
from qfund.features.layers.measure.opening import Opening
from qfund.features.layers.measure.places import Places
from qfund.features.layers.request.recipe import FUSED, Mixture, RecipeRequest
from qfund.features.layers.request.solver import Choice
from qfund.models.skeleton import Skeletons
from qfund.stream.mixed import Mix

#: (modules, precision) → mean KL divergence in nat, or a share of positions.
Damages = Mapping[tuple[tuple[str, ...], str], float]


@dataclass(frozen=True, slots=True)
class Choosing:
    """
    Attributes:
        rows: to choose from, the reference first.
        names: the modules in the model's order; ``weights`` numbers together.
        groups: those that have one precision.
        bytes: group → precision → bytes.
        rest: bytes of the model beside these modules.
    """

    rows: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    weights: int
    bytes: Mapping[tuple[str, ...], Mapping[str, int]]
    rest: int

    @property
    def smallest(self) -> int:
        """Bytes of the smallest model that there can be."""
        return self.rest + sum(min(each.values()) for each in self.bytes.values())

    def within(self, bits: float) -> int:
        """Bytes of the model with so many bits per weight."""
        return self.rest + math.floor(bits * self.weights / 8)

    def bits(self, size: int) -> float:
        return 8 * (size - self.rest) / self.weights

    @property
    def singles(self) -> dict[tuple[tuple[str, ...], str], Mix]:
        """One group at a time in a precision."""
        return {
            (group, row): Mix(f"{number} in {row}", dict.fromkeys(group, row))
            for number, group in enumerate(self.groups)
            for row in self.rows[1:]
        }

    @property
    def everywhere(self) -> dict[str, Mix]:
        """All groups in a precision."""
        return {row: Mix(f"{row} everywhere", dict.fromkeys(self.names, row)) for row in self.rows[1:]}

    def choices(self, damages: Damages, changed: Damages | None = None) -> list[Choice]:
        """The reference alone has no damage; ``changed`` are shares of positions."""

        def of(values: Damages, group: tuple[str, ...]) -> dict[str, float]:
            return {self.rows[0]: 0.0} | {row: values[group, row] for row in self.rows[1:]}

        return [
            Choice(group, self.bytes[group], of(damages, group), of(changed, group) if changed else {})
            for group in self.groups
        ]

    def mixture(self, choices: Sequence[Choice], chosen: Sequence[str], precision: str | None = None) -> Mixture:
        """What a precision for each of the choices comes to; ``precision`` where it is one."""
        taken = list(zip(choices, chosen, strict=True))
        rows = {name: row for choice, row in taken for name in choice.modules}
        modules = {name: rows[name] for name in self.names}
        size = self.rest + sum(choice.bytes[row] for choice, row in taken)
        predicted = math.fsum(choice.damage[row] for choice, row in taken)
        return Mixture(precision, modules, size, self.bits(size), predicted)


def choosing(whole: Opening, request: RecipeRequest) -> Choosing:
    """
    Raises:
        InvalidSpec: no module can be in all of the precisions.
    """
    names = _choosable(whole.places, request.precisions)
    rows = (whole.reference, *whole.rows)
    skeletons = Skeletons(whole.opened.found)
    sizes = {row.name: whole.places.sizes(skeletons.footprint(row, request.also)) for row in rows}
    groups = tuple(tuple(group) for group in _groups(whole.places, names, request.alike))
    held = {group: {row: sum(size[name] for name in group) for row, size in sizes.items()} for group in groups}
    return Choosing(
        tuple(sizes),
        tuple(names),
        groups,
        sum(math.prod(whole.places.every[name].shape) for name in names),
        held,
        whole.opened.sizes[request.reference] - sum(each[request.reference] for each in held.values()),
    )


def _choosable(places: Places, precisions: Sequence[str]) -> list[str]:
    """Modules that every precision converts; the others stay in the reference.

    Raises:
        InvalidSpec: there are none.
    """
    common = [name for name in places.every if all(name in places.of[row] for row in precisions)]
    tied = [name for name in common if set(places.every[name].tied) <= set(common)]
    if not tied:
        raise InvalidSpec("No module can be in all of these precisions.", "Choose precisions of one kind.")
    return tied


def _groups(places: Places, names: Sequence[str], alike: Sequence[str]) -> list[list[str]]:
    """Modules that are to have one precision, in the model's order."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        place = places.every[name]
        key: tuple[str, ...] = ("tied", place.tied[0])
        parent = name.rpartition(".")[0]
        for kind in ("qkv", "gate-up"):
            if kind in alike and place.kind in FUSED[kind] and len(place.tied) == 1:
                key = (kind, parent)
        if "kind" in alike and place.block is not None:
            key = ("kind", place.kind)
        if "block" in alike and place.block_name:
            key = ("block", place.block_name)
        found.setdefault(key, []).append(name)
    return list(found.values())
