"""A comparison of whole models, loaded side by side."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import about
from qfund.core.progress import Progress
from qfund.features.compare.measure.files import Files
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.ranges import Watch
from qfund.features.compare.measure.runs import Outcome, Run, of_file
from qfund.features.compare.request.spec import Spec
from qfund.models import inputs, tasks
from qfund.models.cache import ModelCache
from qfund.models.forward import arguments, arithmetic, explained
from qfund.models.loading import LoadedModel
from qfund.models.opened import groups
from qfund.precisions.files import row_of
from qfund.precisions.precision import Precision


def measure_whole(
    spec: Spec,
    found: Checkpoint,
    files: Files,
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
    outcome = Outcome(Gathered(task, batches, spec.candidates), whole=why)
    grouped = groups(spec.reference, spec.candidates, sizes, cache.budget)
    steps, done = sum((1 + len(group)) * (1 + len(batches)) for group in grouped), 0

    def step(phase: str) -> None:
        nonlocal done
        progress(phase, done / steps)
        done += 1

    for group in grouped:
        names = {REFERENCE: spec.reference, **{name: name for name in group}}
        rows = {way: row_of(name) for way, name in names.items()}
        read = {way: files[name] for way, name in names.items() if name in files}
        gathered = outcome.gathered if len(grouped) == 1 else Gathered(task, batches, group)
        with ExitStack() as stack:
            models: dict[str, LoadedModel] = {}
            for name, row in rows.items():
                step(f"loading {row.label}")
                with about(name):
                    own = read[name].checkpoint if name in read else found
                    models[name] = stack.enter_context(cache.lease(own, row, sizes[row.name], spec.also))
            outcome.runs = _run_together(models, rows, read, batches, gathered, step) | outcome.runs
        if gathered is not outcome.gathered:
            outcome.gathered.comparison.candidates |= gathered.comparison.candidates
            outcome.gathered.comparison.reference = gathered.comparison.reference
    return outcome


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
    for number, batch in enumerate(batches):
        outputs = {}
        for name, row in rows.items():
            step(f"running {row.label}, batch {number + 1} of {len(batches)}")
            with about(name), watches.get(name) or nullcontext():
                started = time.perf_counter()
                outputs[name] = forward(models[name].model, batch, row)
                seconds[name] += time.perf_counter() - started
        gathered.output(number, outputs)
    runs = {}
    for name, row in rows.items():
        watch = watches.get(name)
        if watch is None and gathered.of(name).nonfinite:
            watch = _watched(models[name], batches, row)
        if (file := files.get(name)) is not None:
            reached = watch.result if watch else None
            runs[name] = of_file(file, models[name].transformers_bytes, seconds[name], reached)
        else:
            runs[name] = _run(models[name], seconds[name], watch)
    return runs


def _watched(model: LoadedModel, batches: Iterable[inputs.Batch], row: Precision) -> Watch | None:
    """The batches once more, up to the first output that is not finite."""
    with Watch(model.model) as watch:
        for batch in batches:
            forward(model.model, batch, row)
            if watch.blamed is not None:
                return watch
    return None  # the reference is to blame


def _run(model: LoadedModel, seconds: float, watch: Watch | None) -> Run:
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
