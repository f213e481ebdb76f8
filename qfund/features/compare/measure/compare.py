"""The comparison: load the reference and the candidates, run them on the same input, and report what differs."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor

from qfund.checkpoints import checkpoint
from qfund.core.errors import ModelError
from qfund.core.progress import Progress
from qfund.features.compare.measure import libraries, whole
from qfund.features.compare.measure.course import Course
from qfund.features.compare.measure.files import File, open_files, weighted_rows
from qfund.features.compare.measure.gathered import output_of
from qfund.features.compare.measure.reporting import Reporting
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec, checked
from qfund.models import inputs, tasks
from qfund.models.cache import model_cache
from qfund.models.decoding.reading import must_cache
from qfund.models.decoding.writing import greedy
from qfund.models.opened import Opened
from qfund.models.opened import opened as open_model
from qfund.models.skeleton import predict
from qfund.precisions.caches import kv_of, must_round
from qfund.precisions.files import file_names, is_file
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS


def compare(spec: Spec, progress: Progress = lambda phase, share: None) -> Report:
    """Measure ``spec`` in this process.

    A ``progress`` that takes results (``core.progress.Sharing``) is given the report of what there is after each round;
    a comparison that was stopped goes on where it was.

    Raises:
        QfundError: anything that is wrong with the request or the model; see ``qfund.core.errors``.
    """
    started = time.perf_counter()
    asked = spec = checked(spec)
    opened = open_model(spec, _of_the_model(spec), spec.also, progress)
    found, task = opened.found, opened.task
    if spec.kv:
        must_cache(found, task)
    prepared = inputs.prepare(spec, opened.source, found, task, _writing(spec, opened, progress))
    if spec.kv:
        must_round(spec.kv, max(batch.arguments["input_ids"].shape[1] for batch in prepared.batches))
    refused, files = dict[str, str](), dict[str, File]()
    while True:
        try:
            predictions = opened.size(_of_the_model(spec))
            if not files:  # before anything runs, and once it is known what no module reads
                files = open_files(spec, opened.as_read, progress)
                files |= weighted_rows(spec, opened.as_read, progress)
            sizes = _sizes(spec, opened) | {name: file.room for name, file in files.items()}
            predictions |= {name: file.footprint.bytes for name, file in files.items() if file.checkpoint is None}
            reporting = Reporting(asked, predictions, refused, started, time.perf_counter() - started)
            course = Course(spec, opened, files, prepared, progress, reporting.report)
            outcome = course.run(sizes)
            break
        except ModelError as error:
            before, spec = spec, _without(spec, error)
            refused |= {name: error.message for name in before.candidates if name not in spec.candidates}
    report = reporting.report(outcome, course, False)
    if not spec.libraries:
        return report
    results = _timed(list(report.results), spec, found, task, prepared, sizes, progress)
    return replace(report, results=tuple(results), seconds=time.perf_counter() - started)


def _writing(spec: Spec, opened: Opened, progress: Progress) -> inputs.Write:
    """The reference as what writes answers; loaded when it is asked for one."""

    def write(ids: Sequence[int], limit: int) -> list[int]:
        if spec.reference not in opened.sizes:
            opened.size((spec.reference,))
        with opened.loaded((spec.reference,), lambda phase: progress(f"{phase} to write answers", 0.0)) as (model,):
            return greedy(model.model, PRECISIONS[spec.reference], ids, limit)

    return write


def _without(spec: Spec, error: ModelError) -> Spec:
    """The comparison without the candidate that cannot be.

    Raises:
        ModelError: it is not about a candidate, or about the only one.
    """
    left = replace(
        spec,
        kv=tuple(kv for kv in spec.kv if kv != kv_of(str(error.precision))),
        precisions=tuple(name for name in spec.precisions if name != error.precision),
        files=tuple(file for name, file in file_names(spec.files).items() if name != error.precision),
    )
    if not left.candidates or left == spec or error.precision == spec.reference:
        raise error
    return left


def _of_the_model(spec: Spec) -> tuple[str, ...]:
    """The precisions that the model itself is asked in; FP32 for its shapes where there are files alone."""
    return tuple(name for name in (spec.reference, *spec.precisions) if not is_file(name)) or ("fp32",)


def _sizes(spec: Spec, opened: Opened) -> dict[str, int]:
    """Bytes to make room for."""
    sizes = dict(opened.sizes)
    if spec.libraries:  # each library begins with a float model of its own, one candidate after the other
        for name in spec.precisions:
            sizes[name] += len(libraries.implementations(name)) * _base_bytes(opened.found, name)
    return sizes


def _timed(
    results: list[PrecisionResult],
    spec: Spec,
    found: checkpoint.Checkpoint,
    task: tasks.Task,
    prepared: inputs.Prepared,
    sizes: dict[str, int],
    progress: Progress,
) -> list[PrecisionResult]:
    """The results with the candidates' and their libraries' times, on the first batch of whole models."""
    batch = prepared.batches[0]
    timed = []
    for number, result in enumerate(results):
        if kv_of(result.precision) or is_file(result.precision) or is_file(spec.reference):  # no library runs it so
            timed.append(result)
            continue
        row = PRECISIONS[result.precision]
        progress(f"timing {row.label} and libraries", number / len(results))

        def forward(model: Any, row: Precision = row) -> Tensor:
            return output_of(task, whole.forward(model, batch, row))

        with ExitStack() as stack:
            reference, own = (
                stack.enter_context(model_cache().lease(found, PRECISIONS[name], sizes[name], spec.also))
                for name in (spec.reference, result.precision)
            )
            latency, runs = libraries.run(found, result.precision, reference.model, own, forward)
        timed.append(replace(result, latency=latency, libraries=runs))
    return timed


def _base_bytes(found: checkpoint.Checkpoint, precision: str) -> int:
    """Of the float model that a quantised precision starts from."""
    dtype = PRECISIONS[precision].dtype
    return predict(found, next(row for row in PRECISIONS.values() if row.dtype == dtype and not row.quantizer)).bytes
