"""The two roads of a comparison: the model streamed part by part, or whole models side by side."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.progress import Progress
from qfund.core.tensors import LeftModule
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.noise import Noise
from qfund.features.compare.measure.ranges import Watch
from qfund.features.compare.request.report import Range
from qfund.features.compare.request.spec import Spec
from qfund.models import footprint, inputs, tasks
from qfund.models.cache import ModelCache
from qfund.models.footprint import Footprint
from qfund.models.forward import arguments, arithmetic, explained
from qfund.models.loading import LoadedModel
from qfund.models.opened import groups
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS
from qfund.stream.streamed import Streamed
from qfund.stream.walker import NotStreamable, UnknownTail, Walker, Way


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of one model that was run, beside what it gave."""

    footprint: Footprint
    transformers_bytes: int
    converted: tuple[str, ...]
    left: tuple[LeftModule, ...]
    saturated: dict[str, int]
    note: str | None
    seconds: float
    range: Range | None = None


@dataclass(slots=True)
class Outcome:
    """``runs``: by precision, and the reference under ``REFERENCE``. ``whole`` says why models were loaded whole."""

    gathered: Gathered
    runs: dict[str, Run] = field(default_factory=dict)
    noise: tuple[Noise, ...] = ()
    whole: str | None = None


def streamed(
    spec: Spec,
    found: Checkpoint,
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
    ways = [Way(REFERENCE, PRECISIONS[spec.reference])]
    ways += [Way(name, PRECISIONS[name]) for name in spec.precisions]
    ways += [row.way for row in noise]
    walk = Streamed(found, ways, spec.also, layers, tiles)
    walk.must_fit(budget)
    gathered = Gathered(task, batches, spec.precisions, [row.way.name for row in noise])
    asked = {walker.way.name: walker for walker in walk.walkers[: 1 + len(spec.precisions)]}
    # Of all dtypes that models run in, fp16 is the one whose end they reach.
    watches = {name: Watch(one.frame.model) for name, one in asked.items() if one.way.row.dtype == "float16"}
    given = [batch.arguments for batch in batches]
    with ExitStack() as stack:
        for watch in watches.values():
            stack.enter_context(watch)
        walk.run(given, gathered, progress)
    outcome = Outcome(gathered, noise=tuple(noise))
    for name, walker in asked.items():
        measured = gathered.comparison.reference if name == REFERENCE else gathered.comparison.candidates[name]
        if name in watches:
            seen = _range(walk, walker, watches[name])
        else:
            seen = None
            if measured.nonfinite:
                seen = _watched(Streamed(found, [walker.way], spec.also, layers, tiles), given)
        outcome.runs[name] = _run(walk, walker, seen)
    return outcome


def _run(walk: Streamed, walker: Walker, seen: Range | None) -> Run:
    model, conversion = walker.frame.model, walker.frame.conversion
    return Run(
        footprint=footprint.stored(model),
        transformers_bytes=int(model.get_memory_footprint()),
        converted=conversion.plan.converted if conversion else (),
        left=conversion.plan.left if conversion else (),
        saturated=walk.quantized.saturated.get(walker.way.row.name, {}),
        note=" ".join(conversion.notes) or None if conversion else None,
        seconds=walker.seconds,
        range=seen,
    )


def _range(walk: Streamed, walker: Walker, watch: Watch) -> Range | None:
    blamed = watch.blamed
    with walk.filled(walker.frame, blamed) if blamed is not None else nullcontext():
        return watch.result


class _Deaf:
    """Takes in nothing."""

    def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None: ...

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None: ...

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None: ...


def _watched(walk: Streamed, batches: Sequence[Mapping[str, torch.Tensor]]) -> Range | None:
    """A second walk, of a precision whose outputs were not finite: rare, so that no other model is watched at first."""
    with Watch(walk.walkers[0].frame.model) as watch:
        walk.run(batches, _Deaf())
    # Where no module of its own is to blame, the reference is.
    return _range(walk, walk.walkers[0], watch) if watch.blamed is not None else None


def whole(
    spec: Spec,
    found: Checkpoint,
    task: tasks.Task,
    batches: Sequence[inputs.Batch],
    sizes: Mapping[str, int],
    cache: ModelCache,
    why: str,
    progress: Progress,
) -> Outcome:
    """Load the reference beside groups of candidates that fit in memory, and run them in turn.

    Raises:
        OutOfBudget: the reference and one candidate do not fit together.
        UnsupportedModel: a model cannot be run.
    """
    outcome = Outcome(Gathered(task, batches, spec.precisions), whole=why)
    grouped = groups(spec.reference, spec.precisions, sizes, cache.budget)
    steps, done = sum((1 + len(group)) * (1 + len(batches)) for group in grouped), 0

    def step(phase: str) -> None:
        nonlocal done
        progress(phase, done / steps)
        done += 1

    for group in grouped:
        names = {REFERENCE: spec.reference, **{name: name for name in group}}
        gathered = outcome.gathered if len(grouped) == 1 else Gathered(task, batches, group)
        with ExitStack() as stack:
            loaded: dict[str, LoadedModel] = {}
            for name, row in names.items():
                step(f"loading {PRECISIONS[row].label}")
                lease = cache.lease(found, PRECISIONS[row], sizes[row], spec.also)
                loaded[name] = stack.enter_context(lease)
            watches = {
                name: Watch(loaded[name].model) for name, row in names.items() if PRECISIONS[row].dtype == "float16"
            }
            seconds = dict.fromkeys(names, 0.0)
            for number, batch in enumerate(batches):
                outputs = {}
                for name, row in names.items():
                    step(f"running {PRECISIONS[row].label}, batch {number + 1} of {len(batches)}")
                    with watches.get(name) or nullcontext():
                        started = time.perf_counter()
                        outputs[name] = forward(loaded[name].model, batch, PRECISIONS[row])
                        seconds[name] += time.perf_counter() - started
                gathered.output(number, outputs)
            for name, row in names.items():
                measured = gathered.comparison.reference if name == REFERENCE else gathered.comparison.candidates[name]
                watch = watches.get(name)
                if watch is None and measured.nonfinite:
                    watch = _watched_whole(loaded[name], batches, PRECISIONS[row])
                outcome.runs.setdefault(name, _of(loaded[name], seconds[name], watch))
        if gathered is not outcome.gathered:
            outcome.gathered.comparison.candidates |= gathered.comparison.candidates
            outcome.gathered.comparison.reference = gathered.comparison.reference
    return outcome


def _watched_whole(model: LoadedModel, batches: Iterable[inputs.Batch], row: Precision) -> Watch | None:
    with Watch(model.model) as watch:
        for batch in batches:
            forward(model.model, batch, row)
            if watch.blamed is not None:
                return watch
    return None  # the reference is to blame


def _of(model: LoadedModel, seconds: float, watch: Watch | None) -> Run:
    return Run(
        footprint=model.footprint,
        transformers_bytes=model.transformers_bytes,
        converted=model.converted,
        left=model.left,
        saturated=model.saturated,
        note=model.note,
        seconds=seconds,
        range=watch.result if watch else None,
    )


@torch.inference_mode()
def forward(model: Any, batch: inputs.Batch, row: Precision) -> Any:
    """What a whole model gives for a batch.

    Raises:
        UnsupportedModel: its code or a kernel raises.
    """
    # A model that draws random numbers even in evaluation (ViT-MAE's mask) draws the same in every precision.
    with torch.random.fork_rng(devices=[]), explained(model, row), arithmetic(row):
        torch.manual_seed(0)
        return model(**arguments(model, batch.arguments, model.device))


def by_parts(
    spec: Spec,
    found: Checkpoint,
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
            return streamed(spec, found, task, batches, noise, budget, progress, layers, tiles)
        except UnknownTail:
            tiles = False
        except NotStreamable as error:
            left = [row for row in noise if row.way.name != error.way]
            if len(left) == len(noise) and not layers:
                return str(error)
            layers, noise = layers and len(left) < len(noise), left
