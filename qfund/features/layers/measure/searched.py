"""The measure ``recipe``: damages from single swaps on one text, the best mix under a budget, and both it and uniform
precisions on another text."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from qfund.core.errors import InvalidInput, InvalidSpec
from qfund.core.estimate import Estimate
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.estimates import estimates
from qfund.core.metrics.positions import Positions
from qfund.core.progress import Progress
from qfund.core.units import bytes_text
from qfund.features.compare.request import pairs
from qfund.features.layers.measure.opening import Opening, notes, opening
from qfund.features.layers.measure.places import Places
from qfund.features.layers.measure.swapped import changed, mixes
from qfund.features.layers.request.recipe import (
    FUSED,
    Choice,
    Mixture,
    Recipe,
    RecipeRequest,
    checked,
    smallest,
    solve,
)
from qfund.models import environment
from qfund.models.inputs import Batch
from qfund.models.skeleton import Skeletons
from qfund.precisions.precision import Precision
from qfund.stream.mixed import Mix
from qfund.version import VERSION

#: Budgets between the smallest and the largest whose best mixes are foretold.
FRONTIER = 12


def recipe(request: RecipeRequest, progress: Progress = lambda phase, share: None) -> Recipe:
    """
    Raises:
        InvalidSpec: the budget is below the smallest that can be.
        InvalidInput: a text too short to be split in two.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    whole = opening(replace(request, max_tokens=request.max_tokens + request.test_tokens), progress)
    search, test = split(whole, request.max_tokens)
    names = _choosable(whole.places, request.precisions)
    rows = (whole.reference, *whole.rows)
    sizes = _sizes(whole, rows, request)
    groups = [tuple(group) for group in _groups(whole.places, names, request.alike)]
    weights = sum(whole.places.every[name].shape[0] * whole.places.every[name].shape[1] for name in names)

    bytes_of = {group: {row.name: sum(sizes[row.name][name] for name in group) for row in rows} for group in groups}
    rest = whole.opened.sizes[request.reference] - sum(each[request.reference] for each in bytes_of.values())
    budget = request.budget
    if request.bits is not None:
        budget = rest + math.floor(request.bits * weights / 8)
    least = rest + sum(min(each.values()) for each in bytes_of.values())
    if budget is not None and least > budget:
        raise _too_small(request, budget, least, 8 * (least - rest) / weights)

    singles = {
        (group, row.name): Mix(f"{number} in {row.name}", dict.fromkeys(group, row.name))
        for number, group in enumerate(groups)
        for row in whole.rows
    }
    everywhere = {row.name: Mix(f"{row.name} everywhere", dict.fromkeys(names, row.name)) for row in whole.rows}

    def searching(phase: str, share: float) -> None:
        progress(phase, 0.8 * share)

    def testing(phase: str, share: float) -> None:
        progress(f"test text: {phase}", 0.8 + 0.2 * share)

    seen = mixes(search, [*singles.values(), *everywhere.values()], request.also, searching).positions
    damages = {key: _mean(seen[mix.name]) for key, mix in singles.items()}
    choices = [
        Choice(
            group,
            bytes_of[group],
            {request.reference: 0.0} | {row.name: damages[group, row.name] for row in whole.rows},
        )
        for group in groups
    ]

    def mixture(chosen: Sequence[str], precision: str | None = None) -> Mixture:
        taken = list(zip(choices, chosen, strict=True))
        modules = {name: row for choice, row in taken for name in choice.modules}
        held = sum(choice.bytes[row] for choice, row in taken)
        predicted = math.fsum(choice.damage[row] for choice, row in taken)
        ordered = {name: modules[name] for name in whole.places.every if name in modules}
        return Mixture(precision, ordered, rest + held, 8 * held / weights, predicted)

    # The reference alone has no damage, and the smallest mix fits: there is always one.
    chosen = solve(choices, budget - rest) if budget is not None else smallest(choices, request.kl or 0.0)
    assert chosen is not None
    best = mixture(chosen)
    budget = best.bytes if budget is None else budget
    uniform = [mixture([row.name] * len(choices), row.name) for row in whole.rows]
    small = [row for row in uniform if row.bytes <= budget]
    by_search = {row.name: _mean(seen[everywhere[row.name].name]) for row in whole.rows}
    rival = min(small, key=lambda row: by_search[str(row.precision)]).precision if small else None
    other = {name: row for name, row in best.modules.items() if row != request.reference}
    asked_mixes = [Mix("recipe", other), *everywhere.values()]
    tested = mixes(test, asked_mixes, request.also, testing).positions
    largest = max(row.bytes for row in uniform)
    steps = [least + (largest - least) * step // (FRONTIER - 1) for step in range(FRONTIER)]
    frontier = [mixture(found) for step in steps if (found := solve(choices, step - rest))]
    return Recipe(
        request=request,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(whole.opened.found.id, whole.opened.revision),
        architecture=whole.opened.found.architecture,
        input=whole.prepared.facts,
        search_tokens=_tokens(search.prepared.batches),
        test_tokens=_tokens(test.prepared.batches),
        budget=budget,
        recipe=_measured(best, tested["recipe"]),
        uniform=tuple(_measured(row, tested[everywhere[str(row.precision)].name]) for row in uniform),
        rival=rival,
        difference=_paired(tested["recipe"], tested[everywhere[rival].name]) if rival else None,
        frontier=tuple(frontier),
        smallest=least,
        seconds=time.perf_counter() - started,
        notes=notes(whole),
    )


def _too_small(request: RecipeRequest, budget: int, smallest: int, bits: float) -> InvalidSpec:
    asked = f"{request.bits:g} bits per weight" if request.bits else bytes_text(budget)
    least = f"{bits:.2f} bits per weight" if request.bits else bytes_text(smallest)
    return InvalidSpec(
        f"{asked} are less than these precisions can do: the smallest takes {least}.",
        "Give a larger budget, or add a precision of fewer bits.",
    )


def split(whole: Opening, tokens: int) -> tuple[Opening, Opening]:
    """What is searched on, and what is tested on: whole chunks, none of which is in both.

    Raises:
        InvalidInput: there is too little text for both.
    """
    first: list[Batch] = []
    second: list[Batch] = []
    chunks = sum(len(batch.chunks) for batch in whole.prepared.batches)
    share = tokens / _tokens(whole.prepared.batches)
    left = max(1, min(chunks - 1, round(chunks * share)) if share < 1 else chunks // 2)
    if chunks < 2:
        raise InvalidInput(
            "The text is too short to be split: a recipe is found on one part and tested on another.",
            "Give a longer text, or a shorter context.",
        )
    for batch in whole.prepared.batches:
        count = min(left, len(batch.chunks))
        first += [_examples(batch, slice(count))] if count else []
        second += [_examples(batch, slice(count, None))] if count < len(batch.chunks) else []
        left -= count
    one, other = (replace(whole, prepared=replace(whole.prepared, batches=tuple(part))) for part in (first, second))
    return one, other


def _examples(batch: Batch, part: slice) -> Batch:
    return Batch(
        {name: value[part] for name, value in batch.arguments.items()},
        None if batch.targets is None else batch.targets[part],
        None if batch.scored is None else batch.scored[part],
        batch.chunks[part],
    )


def _tokens(batches: Sequence[Batch]) -> int:
    return sum(int(next(iter(batch.arguments.values())).numel()) for batch in batches)


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


def _sizes(whole: Opening, rows: Sequence[Precision], request: RecipeRequest) -> dict[str, dict[str, int]]:
    """Precision → module → bytes of its tensors, from shapes."""
    skeletons = Skeletons(whole.opened.found)
    return {row.name: whole.places.sizes(skeletons.footprint(row, request.also)) for row in rows}


def _mean(positions: Positions) -> float:
    assert positions.kl is not None
    return float(np.mean(positions.kl)) if len(positions.kl) else math.inf


def _measured(found: Mixture, positions: Positions) -> Mixture:
    seen = estimates(positions)
    return replace(found, kl=seen["kl_mean"], changed=changed(seen["top1_agreement"]))


def _paired(one: Positions, other: Positions) -> Estimate | None:
    """Mean KL of one − that of the other at the same positions, with the interval of the difference."""
    return pairs.of(chunk_sums.of(one), chunk_sums.of(other)).get("kl_mean")
