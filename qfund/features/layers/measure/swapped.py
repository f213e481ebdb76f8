"""The measure ``swaps``: parts of the model in a precision, one at a time, and all else the reference."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund.core.errors import UnsupportedModel
from qfund.core.estimate import Estimate
from qfund.core.metrics.estimates import estimates
from qfund.core.metrics.positions import Positions
from qfund.core.progress import Progress
from qfund.features.layers.measure.kept import Keeping, told
from qfund.features.layers.measure.opening import Opening, notes, opening
from qfund.features.layers.measure.places import Places
from qfund.features.layers.request.swaps import Swap, Swaps, SwapsRequest, checked
from qfund.models import environment
from qfund.models.cache import model_cache
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.forward import run
from qfund.models.inputs import Batch, Prepared
from qfund.stream.borrowing import borrowed, running
from qfund.stream.mixed import Mix, Mixed
from qfund.stream.walker import NotStreamable, Way
from qfund.version import VERSION

REFERENCE = "reference"
CONTROL = "nothing"
#: A walk over the checkpoint takes about so many operations, and never fewer mixes than these.
WALK, FEWEST = 2.5e11, 8


def swaps(request: SwapsRequest, progress: Progress = lambda phase, share: None) -> Swaps:
    """
    Raises:
        UnsupportedModel: its outputs are no distributions.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    opened = opening(request, progress)
    parts = {row: parts_of(opened.places, row, request.part) for row in request.precisions}
    whole = {row: Mix(f"{row} everywhere", dict.fromkeys(opened.places.of[row], row)) for row in request.precisions}
    singles = {
        (row, part): Mix(f"{row} in {part}", dict.fromkeys(modules, row))
        for row, found in parts.items()
        for part, modules in found.items()
    }
    every = [Mix(CONTROL), *singles.values(), *whole.values()]
    measured = mixes(opened, every, request.also, progress, Keeping.asked_by(progress))

    def swap(part: str, row: str, mix: Mix) -> Swap:
        found = estimates(measured.positions[mix.name], opened.prepared.texts_of_chunks)
        return Swap(part, row, tuple(mix.modules), found["kl_mean"], changed(found["top1_agreement"]))

    control = measured.positions[CONTROL].kl
    return Swaps(
        request=request,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opened.opened.found.id, opened.opened.revision),
        architecture=opened.opened.found.architecture,
        input=opened.prepared.facts,
        swaps=tuple(swap(part, row, mix) for (row, part), mix in singles.items()),
        together={row: swap("everything", row, mix) for row, mix in whole.items()},
        control=0.0 if control is None else float(control.max(initial=0.0)),
        seconds=time.perf_counter() - started,
        whole=measured.whole,
        notes=notes(opened),
    )


def parts_of(places: Places, row: str, part: str) -> dict[str, tuple[str, ...]]:
    """The parts that are swapped in a precision, and the modules of each; those that share a weight change together."""
    found: dict[str, list[str]] = {}
    for name in places.of[row]:
        place = places.every[name]
        key = {"module": place.tied[0], "kind": place.kind, "block": place.block_name or place.tied[0]}[part]
        found.setdefault(key, []).append(name)
    return {key: places.together(names) for key, names in found.items()}


@dataclass(frozen=True, slots=True)
class Measured:
    """Name of a mix → the positions of its outputs beside the reference's. ``whole``: why it was not streamed."""

    positions: Mapping[str, Positions]
    whole: str | None


def mixes(
    opened: Opening, asked: Sequence[Mix], also: Sequence[str], progress: Progress, keeping: Keeping | None = None
) -> Measured:
    """Every mix on the whole input, some blocks' at a time in a walk over the checkpoint; what ``keeping`` has is not
    measured again, and what a walk gives is kept after it.

    Raises:
        UnsupportedModel: its outputs are no distributions.
        QfundError: the model cannot be run.
    """
    if opened.opened.task.gives == "hidden states":
        raise UnsupportedModel(
            f"{opened.opened.found.architecture} gives hidden states and no distribution over anything, so its outputs "
            "have no KL divergence.",
            "See what rounding does to each module's own output (`qfund layers` without --swaps), or choose a model "
            "with a head.",
        )
    kept = keeping.of(opened, also) if keeping else None
    found, why = kept.get(asked) if kept else ({}, None)
    for part in slices(opened, [mix for mix in asked if mix.name not in found]):

        def told_of(phase: str, share: float, done: int = len(found), new: int = len(part)) -> None:
            progress(phase, (done + new * share) / len(asked))  # what was kept is done

        heard, why = _walked(opened, part, also, told_of)
        measured = {name: told(candidate.positions()) for name, candidate in heard.candidates.items()}
        if kept:
            kept.put(part, measured, why)
        found |= measured
    return Measured(found, why)


def slices(opened: Opening, asked: Sequence[Mix]) -> list[list[Mix]]:
    """The mixes of a walk each, by the blocks that they begin to differ in. A walk runs the reference too, so it has
    mixes enough that this is little of it; and it ends soon enough that whoever ends it loses minutes."""
    first = {mix.name: min((_block(opened, name) for name in mix.modules), default=-1) for mix in asked}
    weights = sum(place.shape[0] * place.shape[1] for place in opened.places.every.values())
    tokens = sum(int(next(iter(batch.arguments.values())).numel()) for batch in opened.prepared.batches)
    enough = max(FEWEST, math.ceil(WALK / (2 * weights * tokens + 1)))
    ordered = sorted(asked, key=lambda mix: first[mix.name])
    found: list[list[Mix]] = []
    for mix in ordered:
        if not found or (len(found[-1]) >= enough and first[mix.name] != first[found[-1][-1].name]):
            found.append([])
        found[-1].append(mix)
    return found


def _block(opened: Opening, name: str) -> int:
    block = opened.places.every[name].block
    return -1 if block is None else block


def _walked(
    opened: Opening, asked: Sequence[Mix], also: Sequence[str], progress: Progress
) -> tuple["Heard", str | None]:
    """What was heard of these mixes, and why the model was loaded whole, where it was."""
    heard = Heard(opened.prepared, [mix.name for mix in asked])
    used = {row for mix in asked for row in mix.modules.values()}
    rows = [row for row in opened.rows if row.name in used]
    try:
        walk = Mixed(opened.opened.as_read, Way(REFERENCE, opened.reference), rows, asked, also)
        walk.must_fit(model_cache().budget)
        walk.run([batch.arguments for batch in opened.prepared.batches], heard, progress)
        return heard, None
    except NotStreamable as error:
        heard = Heard(opened.prepared, [mix.name for mix in asked])
        _whole(opened, asked, heard, progress)
        return heard, str(error)


class Heard:
    """A listener of mixes: what their outputs are beside the reference's, which come with each few of them."""

    def __init__(self, prepared: Prepared, names: Sequence[str]) -> None:
        self.candidates = {name: Candidate() for name in names}
        self._prepared = prepared

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None: ...

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None: ...

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        given = self._prepared.batches[batch]
        found = {name: output.logits for name, output in outputs.items()}
        reference = found.pop(REFERENCE)
        # A comparison of its own for each few: the reference is in every one of them.
        comparison = Comparison({name: self.candidates[name] for name in found})
        if reference.dim() == 2:
            comparison.add_logits(reference, found, chunks=given.chunks)
            return
        chosen = torch.ones(reference.shape[:2], dtype=torch.bool) if given.scored is None else given.scored
        targets = None if given.targets is None else given.targets[chosen]
        chunks = given.chunks[:, None].expand(chosen.shape)[chosen]
        rows = {name: part[chosen.to(part.device)] for name, part in found.items()}
        device = reference.device
        comparison.add_logits(
            reference[chosen.to(device)],
            rows,
            None if targets is None else targets.to(device),
            chunks=chunks.to(device),
        )


def _whole(opened: Opening, asked: Sequence[Mix], heard: Heard, progress: Progress) -> None:
    """The reference and all precisions side by side in memory, every mix from its first block on."""
    names = [row.name for row in opened.rows]

    def step(phase: str) -> None:
        progress(phase, 0.0)

    with opened.opened.loaded([opened.reference.name, *names], step) as (reference, *others):
        models = {row.name: (row, model.model) for row, model in zip(opened.rows, others, strict=True)}
        for number, batch in enumerate(opened.prepared.batches):
            progress("running mixes", number / len(opened.prepared.batches))
            own = run(reference.model, batch, opened.reference)
            for mix in asked:
                heard.output(number, {REFERENCE: own, mix.name: mixed(opened, reference.model, models, mix, batch)})


def mixed(opened: Opening, reference: Any, models: Mapping[str, Any], mix: Mix, batch: Batch) -> Any:
    instead = {}
    for name, precision in mix.modules.items():
        row, model = models[precision]
        instead[reference.get_submodule(name)] = borrowed(model.get_submodule(name), row, opened.reference)
    with running(instead):
        return run(reference, batch, opened.reference)


def changed(agreement: Estimate) -> Estimate:
    """The share of positions whose most likely output is another one, from the share of those where it is not."""
    low, high = (None if end is None else 1 - end for end in (agreement.high, agreement.low))
    return replace(agreement, value=1 - agreement.value, low=low, high=high)
