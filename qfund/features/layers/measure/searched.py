"""The measure ``recipe``: damages from single swaps on one text, the best mix under a budget, and both it and uniform
precisions on another text."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from qfund import engine
from qfund.core.errors import InvalidInput, InvalidSpec
from qfund.core.estimate import Estimate
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.estimates import estimates
from qfund.core.metrics.positions import Positions
from qfund.core.progress import Progress
from qfund.core.units import bytes_text
from qfund.features.compare.request import pairs
from qfund.features.layers.measure.choosing import Choosing, Damages, choosing
from qfund.features.layers.measure.gradient import scores
from qfund.features.layers.measure.injected import noise
from qfund.features.layers.measure.kept import Keeping
from qfund.features.layers.measure.opening import Opening, notes, opening
from qfund.features.layers.measure.swapped import changed, mixes
from qfund.features.layers.request.recipe import Mixture, Recipe, RecipeRequest, checked, workload
from qfund.features.layers.request.solver import smallest, solve
from qfund.features.memory.request.fits import FitsRequest
from qfund.models import environment
from qfund.models.inputs import Batch
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
    offered = choosing(whole, request)
    budget, said = request.budget, list(notes(whole))
    if request.bits is not None:
        budget = offered.within(request.bits)
    elif request.gpu is not None:
        budget = _left_on_gpu(request, said)
    if budget is not None and offered.smallest > budget:
        raise _too_small(request, budget, offered)
    everywhere = offered.everywhere

    def searching(phase: str, share: float) -> None:
        progress(phase, 0.8 * share)

    def testing(phase: str, share: float) -> None:
        progress(f"test text: {phase}", 0.8 + 0.2 * share)

    keeping = Keeping.asked_by(progress)
    damages, moved, seen = _damages(search, offered, request, searching, keeping)
    choices = offered.choices(damages, moved)
    # The reference alone has no damage, and the smallest mix fits: there is always one.
    if budget is not None:
        chosen = solve(choices, budget - offered.rest)
    else:
        chosen = smallest(choices, request.kl, request.changed)
    assert chosen is not None
    best = offered.mixture(choices, chosen)
    budget = best.bytes if budget is None else budget
    uniform = [offered.mixture(choices, [row] * len(choices), row) for row in everywhere]
    small = [row for row in uniform if row.bytes <= budget]
    rival = min(small, key=lambda row: seen[str(row.precision)]).precision if small else None
    other = {name: row for name, row in best.modules.items() if row != request.reference}
    asked_mixes = [Mix("recipe", other), *everywhere.values()]
    tested = mixes(test, asked_mixes, request.also, testing, keeping).positions
    largest = max(row.bytes for row in uniform)
    least = offered.smallest
    steps = [least + (largest - least) * step // (FRONTIER - 1) for step in range(FRONTIER)]
    if request.by == "injected":
        said.append(
            "Modules' own errors say little of what the model's outputs lose: prefer single swaps, or gradients where "
            "the model fits in memory. What was measured on the test text holds whatever chose the recipe."
        )
    frontier = [offered.mixture(choices, found) for step in steps if (found := solve(choices, step - offered.rest))]
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
        difference=paired(tested["recipe"], tested[everywhere[rival].name]) if rival else None,
        frontier=tuple(frontier),
        smallest=offered.smallest,
        seconds=time.perf_counter() - started,
        notes=tuple(said),
    )


def _damages(
    search: Opening, offered: Choosing, request: RecipeRequest, progress: Progress, keeping: Keeping | None
) -> tuple[Damages, Damages | None, dict[str, float]]:
    """What each group costs in each precision, in nat and in likeliest outputs where that is measured, and what every
    precision costs everywhere, on the search text."""
    everywhere, singles = offered.everywhere, offered.singles
    if request.by != "swaps":

        def cheap(phase: str, share: float) -> None:
            progress(phase, share / 2)

        def dear(phase: str, share: float) -> None:
            progress(phase, 0.5 + share / 2)

        scored = scores(search, cheap) if request.by == "gradient" else noise(search, request.also, cheap)
        damages: Damages = {(group, row): math.fsum(scored[name, row] for name in group) for group, row in singles}
        seen = mixes(search, list(everywhere.values()), request.also, dear, keeping).positions
        if request.by == "injected":
            damages = in_nat(damages, {row: mean(seen[mix.name]) for row, mix in everywhere.items()})
        moved = None
    else:
        every = [*singles.values(), *everywhere.values()]
        seen = mixes(search, every, request.also, progress, keeping).positions
        damages = {key: mean(seen[mix.name]) for key, mix in singles.items()}
        moved = {key: _moved(seen[mix.name]) for key, mix in singles.items()}
    return damages, moved, {row: mean(seen[mix.name]) for row, mix in everywhere.items()}


def in_nat(damages: Damages, everywhere: Mapping[str, float]) -> Damages:
    """Modules' own errors as a divergence: in each precision such shares of what that costs everywhere. So sums of one
    precision are as measured, and how modules rank in it is theirs alone."""
    sums = {row: math.fsum(damage for (_, own), damage in damages.items() if own == row) for row in everywhere}
    return {(group, row): damage * everywhere[row] / (sums[row] or 1.0) for (group, row), damage in damages.items()}


def _left_on_gpu(request: RecipeRequest, said: list[str]) -> int:
    """Bytes for weights, beside what the workload takes there; ``said`` is told of it.

    Raises:
        InvalidSpec: nothing is left.
        QfundError: as planning says.
    """
    asked = workload(request)
    (row,) = engine.compute(
        FitsRequest(request.model, asked, (request.reference,), request.also, request.revision)
    ).rows  # a float is never refused
    beside: int = row.total.bytes - row.weights.bytes
    left = asked.budget - beside
    if left <= 0:
        raise InvalidSpec(
            f"{bytes_text(asked.budget)} are less than what stands beside the weights at {asked.context:,} tokens: "
            f"{bytes_text(beside)}.",
            "Give a shorter --gpu-context, or a larger GPU.",
        )
    said.append(
        f"{bytes_text(left)} of the {bytes_text(asked.budget)} of {request.gpu} are left for weights at "
        f"{asked.context:,} tokens."
    )
    return left


def _too_small(request: RecipeRequest, budget: int, offered: Choosing) -> InvalidSpec:
    asked = f"{request.bits:g} bits per weight" if request.bits else bytes_text(budget)
    smallest = offered.smallest
    least = f"{offered.bits(smallest):.2f} bits per weight" if request.bits else bytes_text(smallest)
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


def mean(positions: Positions) -> float:
    assert positions.kl is not None
    return float(np.mean(positions.kl)) if len(positions.kl) else math.inf


def _moved(positions: Positions) -> float:
    """The share of positions with another likeliest output."""
    same = positions.same_top1
    return 1 - float(np.mean(same)) if same is not None and len(same) else 0.0


def _measured(found: Mixture, positions: Positions) -> Mixture:
    seen = estimates(positions)
    return replace(found, kl=seen["kl_mean"], changed=changed(seen["top1_agreement"]))


def paired(one: Positions, other: Positions) -> Estimate | None:
    """Mean KL of one − that of the other at the same positions, with the interval of the difference."""
    return pairs.of(chunk_sums.of(one), chunk_sums.of(other)).get("kl_mean")
