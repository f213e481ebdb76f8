"""A comparison in one walk over the checkpoint, the model read part by part."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.progress import Progress
from qfund.features.compare.measure.files import File, Files
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.noise import Noise
from qfund.features.compare.measure.ranges import Watch
from qfund.features.compare.measure.runs import Outcome, Run, of_file
from qfund.features.compare.request.report import Range
from qfund.features.compare.request.spec import Spec
from qfund.models import footprint, inputs, tasks
from qfund.precisions.files import row_of
from qfund.stream.streamed import Streamed
from qfund.stream.walker import NotStreamable, UnknownTail, Walker, Way


def streamed_or_why_not(
    spec: Spec,
    found: Checkpoint,
    files: Files,
    task: tasks.Task,
    batches: Sequence[inputs.Batch],
    noise: Sequence[Noise],
    budget: int,
    progress: Progress,
) -> Outcome | str:
    """Streamed, if need be with single layers kept in memory, or without a noise run that this model does not take;
    else why not."""
    layers = tiles = True
    while True:
        try:
            return measure_streamed(spec, found, files, task, batches, noise, budget, progress, layers, tiles)
        except UnknownTail:
            tiles = False
        except NotStreamable as error:
            left = [row for row in noise if row.way.name != error.way]
            if len(left) == len(noise) and not layers:
                return str(error)
            layers, noise = layers and len(left) < len(noise), left


def measure_streamed(
    spec: Spec,
    found: Checkpoint,
    files: Files,
    task: tasks.Task,
    batches: Sequence[inputs.Batch],
    noise: Sequence[Noise],
    budget: int,
    progress: Progress,
    layers: bool = True,
    tiles: bool = True,
) -> Outcome:
    """One walk over the checkpoint for the reference, all candidates and the reference's noise.

    Raises:
        NotStreamable: the model cannot be run part by part.
        OutOfBudget: one part of it needs more than ``budget`` bytes.
        QfundError: anything that is wrong with the checkpoint.
    """
    names = {REFERENCE: spec.reference, **{name: name for name in spec.candidates}}
    ways = [
        Way(way, row_of(name), checkpoint=files[name].checkpoint if name in files else None)
        for way, name in names.items()
    ]
    ways += [row.way for row in noise]
    walk = Streamed(found, ways, spec.also, layers, tiles)
    walk.must_fit(budget)
    gathered = Gathered(task, batches, spec.candidates, [row.way.name for row in noise])
    walkers = {walker.way.name: walker for walker in walk.walkers[: len(names)]}
    # Of all dtypes that models run in, fp16 is the one whose end they reach.
    watches = {name: Watch(walker.frame.model) for name, walker in walkers.items() if walker.way.row.dtype == "float16"}
    arguments = [batch.arguments for batch in batches]
    with ExitStack() as stack:
        for watch in watches.values():
            stack.enter_context(watch)
        walk.run(arguments, gathered, progress)
    outcome = Outcome(gathered, noise=tuple(noise))
    for name, walker in walkers.items():
        reached = None
        if name in watches:
            reached = _range(walk, walker, watches[name])
        elif gathered.of(name).nonfinite:
            reached = _watched(Streamed(found, [walker.way], spec.also, layers, tiles), arguments)
        outcome.runs[name] = _run(walk, walker, reached, files.get(names[name]))
    return outcome


def _run(walk: Streamed, walker: Walker, reached: Range | None, file: File | None) -> Run:
    model, conversion = walker.frame.model, walker.frame.conversion
    if file is not None:
        return of_file(file, int(model.get_memory_footprint()), walker.seconds, reached)
    return Run(
        footprint=footprint.stored(model),
        transformers_bytes=int(model.get_memory_footprint()),
        converted=conversion.plan.converted if conversion else (),
        left=conversion.plan.left if conversion else (),
        saturated=walk.quantized.saturated.get(walker.way.row.name, {}),
        note=" ".join(conversion.notes) or None if conversion else None,
        seconds=walker.seconds,
        range=reached,
    )


def _range(walk: Streamed, walker: Walker, watch: Watch) -> Range | None:
    blamed = watch.blamed
    with walk.filled(walker.frame, blamed) if blamed is not None else nullcontext():
        return watch.result


class _Ignore:
    """A listener that takes in nothing."""

    def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None: ...

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None: ...

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None: ...


def _watched(walk: Streamed, batches: Sequence[Mapping[str, torch.Tensor]]) -> Range | None:
    """A second walk, of a precision whose outputs were not finite: rare, so that no other model is watched at first."""
    with Watch(walk.walkers[0].frame.model) as watch:
        walk.run(batches, _Ignore())
    # Where no module of its own is to blame, the reference is.
    return _range(walk, walk.walkers[0], watch) if watch.blamed is not None else None
