"""A comparison's report, of all of the input or of what was read so far."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from qfund.checkpoints import checkpoint
from qfund.core.environment import Environment
from qfund.core.estimate import Estimate
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.estimates import buckets, estimates, percentiles
from qfund.core.metrics.positions import Positions
from qfund.core.model import ModelFacts
from qfund.features.compare.measure import noise, tokens
from qfund.features.compare.measure.course import Course
from qfund.features.compare.measure.files import Files
from qfund.features.compare.measure.gathered import REFERENCE, Gathered
from qfund.features.compare.measure.part import part
from qfund.features.compare.measure.runs import Outcome, Run
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.report import SCHEMA, CacheFacts, FileFacts, PrecisionResult, Report, Saturation
from qfund.features.compare.request.spec import DEFAULT_TOKENS, MAP, Spec
from qfund.models import environment, multimodal
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.inputs import Prepared
from qfund.precisions.caches import kv_of, weights_of
from qfund.precisions.files import row_of
from qfund.version import VERSION


@dataclass(frozen=True, slots=True)
class Reporting:
    """
    Attributes:
        asked: with the candidates that were refused.
        predictions: precision → bytes.
        started: when, on the clock of ``time.perf_counter``; ``opening`` seconds later all was there but weights.
    """

    asked: Spec
    predictions: dict[str, int]
    refused: dict[str, str]
    started: float
    opening: float

    def report(self, outcome: Outcome, course: Course, going_on: bool) -> Report:
        """Of what was gathered up to now."""
        spec, opened, rounds = course.spec, course.opened, course.rounds
        found, task = opened.found, opened.task
        prepared = part(course.prepared, rounds.done)
        comparison, runs = outcome.gathered.comparison, outcome.runs
        reference = _result(spec.reference, runs[REFERENCE], self.predictions)
        reference = replace(
            reference,
            fidelity=_own_perplexity(comparison.reference, prepared),
            nonfinite_positions=comparison.reference.nonfinite,
        )
        results = []
        for name in spec.candidates:
            result = _compared(_result(name, runs[name], self.predictions), outcome.gathered, name, prepared)
            if going_on or course.races:
                result = replace(result, looks=rounds.looks.get(name, 0), looks_planned=rounds.planned)
            if rounds.left.get(name, rounds.done) < rounds.done:
                result = replace(result, tokens=part(course.prepared, rounds.left[name]).facts.tokens)
            results.append(result)
        reference, *results = [replace(row, file=_facts(course.files, row.precision)) for row in (reference, *results)]
        if spec.kv:
            reference, *results = _with_caches([reference, *results], runs)
        notes = (*prepared.facts.notes, *opened.notes, *_beside_text(spec, found, runs, task.reads != "text"))
        whole = rounds.done >= len(course.prepared.batches)
        seconds = time.perf_counter() - self.started
        place = environment.describe(found.id, opened.revision)
        return Report(
            schema=SCHEMA,
            qfund=VERSION,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            spec=self.asked,
            environment=place,
            model=ModelFacts(
                found.architecture,
                task.name,
                runs[REFERENCE].footprint.parameters,
                _stored_dtypes(found),
                outcome.gathered.vocabulary,
            ),
            input=replace(prepared.facts, notes=notes),
            reference=reference,
            results=tuple(results),
            tokens=None if MAP in spec.without else tokens.token_map(prepared, _asked(comparison, spec), task),
            seconds=seconds,
            whole=outcome.whole,
            noise=course.noise,
            refused=dict(self.refused),
            planned=None if whole else course.prepared.facts.tokens,
            partial=going_on,
            costs=_costs(outcome, course, seconds, place) if outcome.whole is None and prepared.facts.tokens else None,
            batch=outcome.batch,
        )


def _facts(files: Files, name: str) -> FileFacts | None:
    name = weights_of(name)
    return files[name].facts if name in files else None


def _with_caches(rows: list[PrecisionResult], runs: Mapping[str, Run]) -> Iterator[PrecisionResult]:
    """With the bytes of a sequence's keys and values, where some are rounded; what is not, as it was computed beside
    the same weights with a rounded cache."""
    beside = {weights_of(name): run.cache for name, run in runs.items() if run.cache}
    for row in rows:
        rounded = kv_of(row.precision) is not None
        if (found := runs[row.precision].cache if rounded else beside.get(row.precision)) is None:
            yield row
        else:
            stored = found.stored if rounded else found.computed
            yield replace(row, cache=CacheFacts(found.tokens, stored, found.computed))


def _beside_text(spec: Spec, found: checkpoint.Checkpoint, runs: dict[str, Run], pictures: bool) -> list[str]:
    """What of the model the text never ran, where it reads pictures or sound too; and what pictures make of tokens."""
    if spec.max_tokens != DEFAULT_TOKENS and pictures:
        return [f"The number of tokens ({spec.max_tokens:,}) does not limit how many pictures are read."]
    parts = multimodal.parts_beside_text(found)
    stored = {row_of(spec.reference).label: runs[REFERENCE].footprint.tensors}
    stored |= {row_of(name).label: runs[name].footprint.tensors for name in spec.candidates}
    return [multimodal.sentence(parts, stored)] if parts else []


def _asked(comparison: Comparison, spec: Spec) -> Comparison:
    """Without the runs that measure noise."""
    return Comparison({name: comparison.candidates[name] for name in spec.candidates}, comparison.reference)


def _result(name: str, run: Run, predictions: dict[str, int]) -> PrecisionResult:
    """What is known of a model before it is compared."""
    counted = run.footprint
    return PrecisionResult(
        precision=name,
        footprint_bytes=counted.bytes,
        predicted_bytes=predictions.get(weights_of(name)),
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


def _compared(result: PrecisionResult, gathered: Gathered, name: str, prepared: Prepared) -> PrecisionResult:
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


def _costs(outcome: Outcome, course: Course, seconds: float, place: Environment) -> Costs:
    """What this process has spent, by what it spent it on."""
    rounds = course.rounds
    read = {name: part(course.prepared, rounds.left.get(name, rounds.done)).facts.tokens for name in rounds.names}
    every = read | {course.spec.reference: part(course.prepared, rounds.done).facts.tokens}
    before = part(course.prepared, rounds.begun).facts.tokens if rounds.begun else 0
    now = sum(max(0, tokens - before) for tokens in read.values())
    took = {course.spec.reference: outcome.runs[REFERENCE].seconds}
    took = {name: outcome.runs[name].seconds for name in rounds.names} | took
    return Costs(
        cpu=place.cpu,
        threads=place.threads,
        device=place.device,
        parameters=outcome.runs[REFERENCE].footprint.parameters,
        vocabulary=outcome.gathered.vocabulary,
        context=course.prepared.facts.context,
        opening=max(0.0, seconds - rounds.spent),
        forward={name: took[name] / every[name] for name in took if took[name] and every[name]},
        reading=rounds.reading / max(1, rounds.walks),
        ways=1 + len(rounds.names),
        comparing=rounds.comparing / now if now else 0.0,
        noise=rounds.noise / min(noise.POSITIONS, every[course.spec.reference]),
    )


def _saturation(run: Run) -> Saturation | None:
    found = run.saturated
    return Saturation(sum(found.values()), run.footprint.quantized, next(iter(found))) if found else None


def _own_perplexity(reference: Candidate, prepared: Prepared) -> dict[str, Estimate]:
    nll, chunks = reference.vector("nll_candidate"), reference.vector("chunk_scored")
    found = estimates(Positions(nll_candidate=nll, chunk_scored=chunks), prepared.texts_of_chunks)
    return {"perplexity": found["perplexity"]} if "perplexity" in found else {}


def _stored_dtypes(found: checkpoint.Checkpoint) -> dict[str, int]:
    """dtype as stored → bytes in the checkpoint's files."""
    sizes: dict[str, int] = {}
    for tensor in found.tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
    return sizes
