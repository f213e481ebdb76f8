"""The comparison: load the reference and the candidates, run them on the same input, and report what differs."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from qfund.checkpoints import checkpoint
from qfund.core.errors import ModelError
from qfund.core.estimate import Estimate
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.estimates import buckets, estimates, percentiles
from qfund.core.metrics.positions import Positions
from qfund.core.model import ModelFacts
from qfund.core.progress import Progress
from qfund.features.compare.measure import libraries, noise, streamed, tokens, whole
from qfund.features.compare.measure.gathered import REFERENCE, Gathered, output_of
from qfund.features.compare.measure.runs import Outcome, Run
from qfund.features.compare.request.report import SCHEMA, NoiseRun, PrecisionResult, Report, Saturation
from qfund.features.compare.request.spec import DEFAULT_TOKENS, Spec, checked
from qfund.models import decoding, environment, inputs, multimodal, tasks
from qfund.models.cache import model_cache
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.opened import Opened
from qfund.models.opened import opened as open_model
from qfund.models.skeleton import predict
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION


def compare(spec: Spec, progress: Progress = lambda phase, share: None) -> Report:
    """Measure ``spec`` in this process.

    Raises:
        QfundError: anything that is wrong with the request or the model; see ``qfund.core.errors``.
    """
    started = time.perf_counter()
    spec = checked(spec)
    opened = open_model(spec, (spec.reference, *spec.precisions), spec.also, progress)
    found, task = opened.found, opened.task
    prepared = inputs.prepare(spec, opened.source, found, task, _writing(spec, opened, progress))
    asked, refused = spec, dict[str, str]()
    while True:
        try:
            predictions = opened.size((spec.reference, *spec.precisions))
            sizes = _sizes(spec, opened)
            outcome = _run(spec, opened.as_read, task, prepared, sizes, progress)
            break
        except ModelError as error:
            spec = _without(spec, error)
            refused[str(error.precision)] = error.message
    comparison, runs = outcome.gathered.comparison, outcome.runs
    reference = _result(spec.reference, runs[REFERENCE], predictions)
    reference = replace(
        reference,
        fidelity=_own_perplexity(comparison.reference, prepared),
        nonfinite_positions=comparison.reference.nonfinite,
    )
    results = [
        _compared(_result(name, runs[name], predictions), outcome.gathered, name, prepared) for name in spec.precisions
    ]
    if spec.libraries:
        results = _timed(results, spec, found, task, prepared, sizes, progress)
    return Report(
        schema=SCHEMA,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=asked,
        environment=environment.describe(found.id, opened.revision),
        model=ModelFacts(
            found.architecture,
            task.name,
            runs[REFERENCE].footprint.parameters,
            _stored_dtypes(found),
            outcome.gathered.vocabulary,
        ),
        input=replace(
            prepared.facts,
            notes=(*prepared.facts.notes, *opened.notes, *_beside_text(spec, found, runs, task.reads != "text")),
        ),
        reference=reference,
        results=tuple(results),
        tokens=tokens.token_map(prepared, _asked(comparison, spec), task),
        seconds=time.perf_counter() - started,
        whole=outcome.whole,
        noise=tuple(_noise_run(row, comparison.candidates[row.way.name], prepared) for row in outcome.noise),
        refused=refused,
    )


def _writing(spec: Spec, opened: Opened, progress: Progress) -> inputs.Write:
    """The reference as what writes answers; loaded when it is asked for one."""

    def write(ids: Sequence[int], limit: int) -> list[int]:
        if spec.reference not in opened.sizes:
            opened.size((spec.reference,))
        with opened.loaded((spec.reference,), lambda phase: progress(f"{phase} to write answers", 0.0)) as (model,):
            return decoding.greedy(model.model, PRECISIONS[spec.reference], ids, limit)

    return write


def _without(spec: Spec, error: ModelError) -> Spec:
    """The comparison without the candidate that cannot be.

    Raises:
        ModelError: it is not about a candidate, or about the only one.
    """
    left = tuple(name for name in spec.precisions if name != error.precision)
    if not left or len(left) == len(spec.precisions) or error.precision == spec.reference:
        raise error
    return replace(spec, precisions=left)


def _sizes(spec: Spec, opened: Opened) -> dict[str, int]:
    """Bytes to make room for."""
    sizes = dict(opened.sizes)
    if spec.libraries:  # each library begins with a float model of its own, one candidate after the other
        for name in spec.precisions:
            sizes[name] += len(libraries.implementations(name)) * _base_bytes(opened.found, name)
    return sizes


def _run(
    spec: Spec,
    found: checkpoint.Checkpoint,
    task: tasks.Task,
    prepared: inputs.Prepared,
    sizes: dict[str, int],
    progress: Progress,
) -> Outcome:
    """Streamed where that can be done, whole where not."""
    budget = model_cache().budget
    if any(PRECISIONS[name].family == STORED for name in spec.precisions):
        why = "what is quantised already is loaded as its library does it"
    else:
        varied = noise.ways(spec.reference, found, prepared.batches)
        answer = streamed.streamed_or_why_not(spec, found, task, prepared.batches, varied, budget, progress)
        if isinstance(answer, Outcome):
            return answer
        why = answer
    return whole.measure_whole(spec, found, task, prepared.batches, sizes, model_cache(), why, progress)


def _beside_text(spec: Spec, found: checkpoint.Checkpoint, runs: dict[str, Run], pictures: bool) -> list[str]:
    """What of the model the text never ran, where it reads pictures or sound too; and what pictures make of tokens."""
    if spec.max_tokens != DEFAULT_TOKENS and pictures:
        return [f"The number of tokens ({spec.max_tokens:,}) does not limit how many pictures are read."]
    parts = multimodal.parts_beside_text(found)
    stored = {PRECISIONS[spec.reference].label: runs[REFERENCE].footprint.tensors}
    stored |= {PRECISIONS[name].label: runs[name].footprint.tensors for name in spec.precisions}
    return [multimodal.sentence(parts, stored)] if parts else []


def _asked(comparison: Comparison, spec: Spec) -> Comparison:
    """Without the runs that measure noise."""
    return Comparison({name: comparison.candidates[name] for name in spec.precisions}, comparison.reference)


def _result(name: str, run: Run, predictions: dict[str, int]) -> PrecisionResult:
    """What is known of a model before it is compared."""
    counted = run.footprint
    return PrecisionResult(
        precision=name,
        footprint_bytes=counted.bytes,
        predicted_bytes=predictions.get(name),
        transformers_bytes=run.transformers_bytes,
        parts=counted.parts,
        dtypes=counted.dtypes,
        converted=len(run.converted),
        left=len(run.left),
        fidelity={},
        nonfinite_positions=0,
        forward_seconds=run.seconds,
        tensors=counted.tensors,
        converted_modules=run.converted,
        left_modules=run.left,
        bits_per_weight=counted.bits_per_weight,
        saturation=_saturation(run),
        range=run.range,
        note=run.note,
    )


def _compared(result: PrecisionResult, gathered: Gathered, name: str, prepared: inputs.Prepared) -> PrecisionResult:
    candidate = gathered.comparison.candidates[name]
    positions = candidate.positions()
    return replace(
        result,
        fidelity=estimates(positions, prepared.texts_of_chunks),
        percentiles=percentiles(positions),
        buckets=buckets(positions, prepared.texts_of_chunks),
        chunks=chunk_sums.of(positions, prepared.texts_of_chunks),
        nonfinite_positions=candidate.nonfinite,
        differences=candidate.histogram() if candidate.vectors.keys() & {"mean_abs", "hidden_mean_abs"} else None,
        drift=gathered.drift.of(name),
    )


def _noise_run(row: noise.Noise, candidate: Candidate, prepared: inputs.Prepared) -> NoiseRun:
    positions = candidate.positions()
    vectors = (positions.mean_abs, positions.hidden_mean_abs)
    count = next((len(vector) for vector in vectors if vector is not None), 0)
    return NoiseRun(row.name, row.meaning, count, estimates(positions, prepared.texts_of_chunks))


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


def _saturation(run: Run) -> Saturation | None:
    found = run.saturated
    return Saturation(sum(found.values()), run.footprint.quantized, next(iter(found))) if found else None


def _own_perplexity(reference: Candidate, prepared: inputs.Prepared) -> dict[str, Estimate]:
    nll, chunks = reference.vector("nll_candidate"), reference.vector("chunk_scored")
    found = estimates(Positions(nll_candidate=nll, chunk_scored=chunks), prepared.texts_of_chunks)
    return {"perplexity": found["perplexity"]} if "perplexity" in found else {}


def _base_bytes(found: checkpoint.Checkpoint, precision: str) -> int:
    """Of the float model that a quantised precision starts from."""
    dtype = PRECISIONS[precision].dtype
    return predict(found, next(row for row in PRECISIONS.values() if row.dtype == dtype and not row.quantizer)).bytes


def _stored_dtypes(found: checkpoint.Checkpoint) -> dict[str, int]:
    """dtype as stored → bytes in the checkpoint's files."""
    sizes: dict[str, int] = {}
    for tensor in found.tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
    return sizes
