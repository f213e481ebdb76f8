"""A comparison of whole models, loaded side by side."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import Any

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import about
from qfund.core.progress import Progress
from qfund.features.compare.measure.files import File, Files
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.ranges import Watch
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.runs import Outcome, Run, earlier, joined, of_file
from qfund.features.compare.request.spec import Spec
from qfund.models import inputs, tasks
from qfund.models.cache import ModelCache
from qfund.models.decoding import reading
from qfund.models.decoding.cache import Sizes
from qfund.models.decoding.cache import sizes as sizes_of
from qfund.models.environment import wait_for
from qfund.models.forward import arguments, arithmetic, explained
from qfund.models.loading import LoadedModel
from qfund.models.opened import groups
from qfund.precisions.caches import kv_of, weights_of
from qfund.precisions.files import row_of
from qfund.precisions.precision import Precision


def measure_whole(
    spec: Spec,
    found: Checkpoint,
    files: Files,
    task: tasks.Task,
    rounds: Rounds,
    sizes: Mapping[str, int],
    cache: ModelCache,
    why: str,
    progress: Progress,
) -> Outcome:
    """Load the reference beside groups of candidates that fit in memory, and run them in turn; in rounds where all fit,
    so that nothing is loaded twice.

    Raises:
        OutOfBudget: the reference and one candidate do not fit together.
        UnsupportedModel: a model cannot be run.
    """
    # A candidate with a rounded cache runs the model of its weights, so it comes after that.
    weights = dict.fromkeys((*spec.weights, spec.reference))
    ordered = [name for own in weights for name in spec.candidates if weights_of(name) == own]
    grouped, batches = groups(spec.reference, ordered, sizes, cache.budget), rounds.batches
    if len(grouped) > 1:
        rounds.at_once()
    rounds.begin()
    outcome = Outcome(rounds.gathered(task, (), spec.without), whole=why)
    left = len(batches) - rounds.done
    steps, done = sum((1 + len(group)) * (1 + left) for group in grouped), 0

    def step(phase: str) -> None:
        nonlocal done
        progress(phase, done / steps)
        done += 1

    for group in grouped:
        names = {REFERENCE: spec.reference, **{name: name for name in group}}
        held = {way: files[weights_of(name)] for way, name in names.items() if weights_of(name) in files}
        rows = {way: held[way].row if way in held else row_of(name) for way, name in names.items()}
        gathered = outcome.gathered if len(grouped) == 1 else Gathered(task, batches, group, (), spec.without)
        with ExitStack() as stack:
            models: dict[str, LoadedModel] = {}
            for name, row in rows.items():
                step(f"loading {row.label}")
                with about(name):
                    own = held[name].checkpoint or found if name in held else found
                    models[name] = stack.enter_context(cache.lease(own, row, sizes[row.name], spec.also))
            if len(grouped) == 1:
                _in_rounds(models, rows, held, rounds, outcome, step)
            else:
                outcome.runs = _run_together(models, rows, held, batches, gathered, step) | outcome.runs
        if gathered is not outcome.gathered:
            outcome.gathered.comparison.candidates |= gathered.comparison.candidates
            outcome.gathered.comparison.reference = gathered.comparison.reference
    rounds.done = len(batches) if len(grouped) > 1 else rounds.done
    return outcome


def _in_rounds(
    models: Mapping[str, LoadedModel],
    rows: Mapping[str, Precision],
    files: Files,
    rounds: Rounds,
    outcome: Outcome,
    step: Callable[[str], None],
) -> None:
    """The same models in every round, less those that have left."""
    runs: dict[str, Run] = {}
    for part in rounds:
        outcome.gathered.batches = rounds.batches[part]
        there = {name: row for name, row in rows.items() if name in (REFERENCE, *rounds.running)}
        seen = _run_together(models, there, files, rounds.batches[part], outcome.gathered, step)
        for name, run in seen.items():
            runs[name] = joined(earlier(runs[name]), run) if name in runs else rounds.run(name, run)
        # Of those that had left before this process began, what is known without running them.
        gone = {
            name: rounds.run(name, _run(models[name], files.get(name), 0.0, None)) for name in rows.keys() - runs.keys()
        }
        outcome.runs = runs | gone
        rounds.over(outcome)  # nothing is read again


def _run_together(
    models: Mapping[str, LoadedModel],
    rows: Mapping[str, Precision],
    files: Files,
    batches: Sequence[inputs.Batch],
    gathered: Gathered,
    step: Callable[[str], None],
) -> dict[str, Run]:
    """Every batch through every model, in turn."""
    watches = {name: Watch(models[name].model) for name, row in rows.items() if row.dtype == "float16"}
    seconds = dict.fromkeys(rows, 0.0)
    caches: dict[str, list[Sizes]] = {}
    for number, batch in enumerate(batches):
        outputs = {}
        for name, row in rows.items():
            step(f"running {row.label}, batch {number + 1} of {len(batches)}")
            with about(name), watches.get(name) or nullcontext():
                started = time.perf_counter()
                outputs[name] = forward(models[name].model, batch, row, kv_of(name), caches.setdefault(name, []))
                wait_for(models[name].model.device)
                seconds[name] += time.perf_counter() - started
        gathered.output(number, outputs)
    runs = {}
    for name, row in rows.items():
        watch = watches.get(name)
        if watch is None and gathered.of(name).nonfinite:
            watch = _watched(models[name], batches, row, kv_of(name))
        runs[name] = replace(
            _run(models[name], files.get(name), seconds[name], watch), cache=max(caches.get(name, ()), default=None)
        )
    return runs


def _watched(model: LoadedModel, batches: Iterable[inputs.Batch], row: Precision, kv: str | None) -> Watch | None:
    """The batches once more, up to the first output that is not finite."""
    with Watch(model.model) as watch:
        for batch in batches:
            forward(model.model, batch, row, kv)
            if watch.blamed is not None:
                return watch
    return None  # the reference is to blame


def _run(model: LoadedModel, file: File | None, seconds: float, watch: Watch | None) -> Run:
    if file is not None and file.checkpoint is not None:
        return of_file(file, model.transformers_bytes, seconds, watch.result if watch else None)
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
def forward(
    model: Any, batch: inputs.Batch, row: Precision, kv: str | None = None, caches: list[Sizes] | None = None
) -> Any:
    """What a whole model gives for a batch. With a cache rounded like ``kv`` its sizes are added to ``caches``.

    Raises:
        UnsupportedModel: its code or a kernel raises, or its cache cannot be rounded.
    """
    # A model that draws random numbers even in evaluation (ViT-MAE's mask) draws the same in every precision.
    with torch.random.fork_rng(devices=[]), explained(model, row), arithmetic(row):
        torch.manual_seed(0)
        given = arguments(model, batch.arguments, model.device)
        if kv is None:
            return model(**given)
        cache, pieces = reading.rounded(model.config, given, kv)
        found = reading.joined([model(**piece) for piece in pieces])
        if caches is not None:
            caches.append(sizes_of(cache))
        return found
