"""The comparison: load the reference and the candidates, run them on the same input, and report what differs."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund import catalog, checkpoint, environment, hub, inputs, prequantised, tasks
from qfund.errors import OutOfBudget, UnsupportedModel
from qfund.loading import LoadedModel, ModelCache, arithmetic, default_budget
from qfund.measures import libraries, tokens
from qfund.measures.fidelity import Candidate, Comparison
from qfund.measures.ranges import Watch
from qfund.metrics import Estimate, estimates, perplexity_of
from qfund.precisions import PRECISIONS, STORED, Precision, precision, require
from qfund.report import SCHEMA, ModelFacts, PrecisionResult, Range, Report, Saturation
from qfund.skeleton import Skeletons, predict
from qfund.spec import Spec, checked
from qfund.units import bytes_text
from qfund.version import VERSION

Progress = Callable[[str, float], None]


_cache: ModelCache | None = None


def model_cache() -> ModelCache:
    """The process's one model cache."""
    global _cache
    if _cache is None:
        _cache = ModelCache(default_budget())
    return _cache


def compare(spec: Spec, progress: Progress = lambda phase, share: None) -> Report:
    """Measure ``spec`` in this process.

    Raises:
        QfundError: anything that is wrong with the request or the model; see ``qfund.errors``.
    """
    started = time.perf_counter()
    spec = checked(spec)
    progress("reading the checkpoint", 0.0)
    source = catalog.locate(spec.model, spec.revision)
    folder, revision = source.folder, None
    if folder is None:
        folder, revision = hub.download(source.name, source.revision, model_cache().budget, progress)
    found = checkpoint.read(folder)
    names = (spec.reference, *spec.precisions)
    if found.quantisation is not None:  # first of all, so that nobody is told to choose what will be refused too
        prequantised.readable(found, torch.device(catalog.device()))
    for row in map(precision, names):
        require(row, catalog.device())
        prequantised.check(found, row.family == STORED, row.label)
    task = tasks.task_of(found)
    prepared = inputs.prepare(spec, source, found, task)
    skeletons = Skeletons(found)
    predictions = {
        row.name: skeletons.footprint(row, spec.also).bytes for row in map(precision, names) if row.family != STORED
    }
    sizes = {name: predictions.get(name, _room_as_stored(found)) for name in names}
    if spec.libraries:  # each library begins with a float model of its own, one candidate after the other
        for name in spec.precisions:
            sizes[name] += len(libraries.implementations(name)) * _base_bytes(found, name)
    run = _Run(spec, found, task, prepared, predictions, sizes, progress)
    run.run(groups(spec.reference, spec.precisions, sizes, model_cache().budget))
    assert run.reference is not None
    map_of_tokens = tokens.token_map(prepared, run.comparison, task)
    return Report(
        schema=SCHEMA,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        environment=environment.describe(found.id, revision),
        model=ModelFacts(found.architecture, task.name, run.parameters, _stored_dtypes(found)),
        input=prepared.facts,
        reference=run.reference,
        results=tuple(run.results[name] for name in spec.precisions),
        tokens=map_of_tokens,
        seconds=time.perf_counter() - started,
    )


def groups(reference: str, candidates: Sequence[str], sizes: dict[str, int], budget: int) -> list[list[str]]:
    """Candidates in groups whose models fit in the budget (bytes) beside the reference, in order.

    Raises:
        OutOfBudget: the reference and one candidate do not fit together.
    """
    free = budget - sizes[reference]
    found: list[list[str]] = []
    left = 0
    for name in candidates:
        size = 0 if name == reference else sizes[name]  # as its own candidate, the reference is there already
        if size > free:
            raise OutOfBudget(
                f"{PRECISIONS[reference].label} and {PRECISIONS[name].label} together need "
                f"{bytes_text(sizes[reference] + sizes[name])}; this process may hold {bytes_text(budget)}.",
                "Choose a smaller model or reference, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
            )
        if not found or size > left:
            found.append([])
            left = free
        found[-1].append(name)
        left -= size
    return found


class _Run:
    """One comparison under way: what has been measured, and how far it is."""

    def __init__(
        self,
        spec: Spec,
        found: checkpoint.Checkpoint,
        task: tasks.Task,
        prepared: inputs.Prepared,
        predictions: dict[str, int],
        sizes: dict[str, int],
        progress: Progress,
    ) -> None:
        self.spec, self.found, self.task, self.prepared = spec, found, task, prepared
        self.predictions, self.sizes, self.progress = predictions, sizes, progress
        self.parameters = 0
        self.reference: PrecisionResult | None = None
        self.results: dict[str, PrecisionResult] = {}
        self.comparison = Comparison({})

    def run(self, grouped: Sequence[Sequence[str]]) -> None:
        """Load and run the reference beside each group of candidates in turn."""
        # One step of the bar is a model loaded, a model run on one batch, or a candidate timed beside libraries.
        steps = sum((1 + len(group)) * (1 + len(self.prepared.batches)) for group in grouped)
        steps += sum(map(len, grouped)) if self.spec.libraries else 0
        done = 0

        def step(phase: str) -> None:
            nonlocal done
            self.progress(phase, done / steps)
            done += 1

        for group in grouped:
            self._run_group(group, step)

    def _run_group(self, candidates: Sequence[str], step: Callable[[str], None]) -> None:
        reference = self.spec.reference
        names = [reference, *candidates]
        comparison = Comparison({name: Candidate() for name in candidates})
        seconds = [0.0] * len(names)
        with ExitStack() as stack:
            loaded: list[LoadedModel] = []
            for name in names:
                step(f"loading {PRECISIONS[name].label}")
                lease = model_cache().lease(self.found, PRECISIONS[name], self.sizes[name], self.spec.also)
                loaded.append(stack.enter_context(lease))
            # Of all dtypes that models run in, fp16 is the one whose end they reach.
            watches = [
                Watch(model.model) if PRECISIONS[name].dtype == "float16" else None
                for name, model in zip(names, loaded, strict=True)
            ]
            kept = 0
            for number, batch in enumerate(self.prepared.batches, 1):
                outputs: list[Any] = []
                for index, model in enumerate(loaded):
                    step(f"running {PRECISIONS[names[index]].label}, batch {number} of {len(self.prepared.batches)}")
                    with watches[index] or nullcontext():
                        started = time.perf_counter()
                        outputs.append(_forward(model.model, batch, PRECISIONS[names[index]]))
                        seconds[index] += time.perf_counter() - started
                kept += _compare(comparison, self.task, batch, outputs, max(0, tokens.SHOWN - kept))
            ranges = [
                self._range(watch, model, PRECISIONS[name], measured)
                for watch, model, name, measured in zip(
                    watches, loaded, names, (comparison.reference, *comparison.candidates.values()), strict=True
                )
            ]
            if self.reference is None:
                fidelity = _own_perplexity(comparison.reference)
                result = self._result(reference, loaded[0], comparison.reference, fidelity, seconds[0])
                self.reference = replace(result, range=ranges[0])
                self.comparison.reference = comparison.reference
                self.parameters = loaded[0].footprint.parameters
            for name, model, spent, seen in zip(candidates, loaded[1:], seconds[1:], ranges[1:], strict=True):
                candidate = comparison.candidates[name]
                result = self._result(name, model, candidate, estimates(candidate.positions()), spent)
                result = replace(result, range=seen)
                if self.spec.libraries:
                    step(f"timing {PRECISIONS[name].label} and libraries")
                    result = self._timed(result, loaded[0], model)
                self.results[name] = result
        self.comparison.candidates |= comparison.candidates

    def _range(self, watch: Watch | None, model: LoadedModel, row: Precision, measured: Candidate) -> Range | None:
        """How near the model came to the end of its dtype; where outputs were not finite, the module to blame."""
        if watch is not None:
            return watch.result
        if not measured.nonfinite:
            return None
        # Rare, so no other model is watched at first: it costs a tenth of the time.
        with Watch(model.model) as again:
            for batch in self.prepared.batches:
                _forward(model.model, batch, row)
                if again.result is not None and again.result.first_nonfinite:
                    return again.result
        return None  # the reference is to blame

    def _timed(self, result: PrecisionResult, reference: LoadedModel, own: LoadedModel) -> PrecisionResult:
        """The result with the candidate's and its libraries' times, on the first batch."""
        row, batch = PRECISIONS[result.precision], self.prepared.batches[0]

        def forward(model: Any) -> Tensor:
            return _outputs(self.task, _forward(model, batch, row))

        latency, runs = libraries.run(self.found, result.precision, reference.model, own, forward)
        return replace(result, latency=latency, libraries=runs)

    def _result(
        self,
        name: str,
        loaded: LoadedModel,
        measured: Candidate,
        fidelity: dict[str, Estimate],
        seconds: float,
    ) -> PrecisionResult:
        counted = loaded.footprint
        return PrecisionResult(
            precision=name,
            footprint_bytes=counted.bytes,
            predicted_bytes=self.predictions.get(name),
            transformers_bytes=loaded.transformers_bytes,
            parts=counted.parts,
            dtypes=counted.dtypes,
            converted=len(loaded.converted),
            left=len(loaded.left),
            fidelity=fidelity,
            nonfinite_positions=measured.nonfinite,
            forward_seconds=seconds,
            tensors=counted.tensors,
            converted_modules=loaded.converted,
            left_modules=loaded.left,
            bits_per_weight=counted.bits_per_weight,
            saturation=_saturation(loaded),
            note=loaded.note,
            differences=measured.histogram() if measured.vectors.keys() & {"mean_abs", "hidden_mean_abs"} else None,
        )


def _saturation(loaded: LoadedModel) -> Saturation | None:
    found = loaded.saturated
    return Saturation(sum(found.values()), loaded.footprint.quantized, next(iter(found))) if found else None


def _room_as_stored(found: checkpoint.Checkpoint) -> int:
    """Bytes to set aside for a checkpoint that is quantised: some libraries unpack it to 16 bits as they run it."""
    return 4 * sum(tensor.bytes for tensor in found.tensors.values())


def _own_perplexity(reference: Candidate) -> dict[str, Estimate]:
    nll = reference.vector("nll_candidate")
    found = None if nll is None or not len(nll) else perplexity_of(nll)
    return {"perplexity": found} if found and math.isfinite(found.value) else {}


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


@torch.inference_mode()
def _forward(model: Any, batch: inputs.Batch, row: Precision) -> Any:
    dtype, device = model.dtype, model.device
    arguments: dict[str, Any] = {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
        for name, value in batch.arguments.items()
    }
    # A cache would only cost memory; a model that knows none ignores the setting in its config.
    if getattr(model.config, "use_cache", False):
        arguments["use_cache"] = False
    try:
        # A model that draws random numbers even in evaluation (ViT-MAE's mask) draws the same in every precision.
        with torch.random.fork_rng(devices=[]), arithmetic(row):
            torch.manual_seed(0)
            return model(**arguments)
    except Exception as error:  # models raise whatever their code and torch's kernels raise
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
            raise
        raise UnsupportedModel(
            f"{type(model).__name__} cannot be run in {row.label} here: {type(error).__name__}: {error}",
            "Choose another model or precision.",
        ) from error


@torch.inference_mode()
def _compare(comparison: Comparison, task: tasks.Task, batch: inputs.Batch, outputs: list[Any], keep: int) -> int:
    """Add one batch's outputs (the reference's first); how many positions went towards the token map."""
    if task.gives == "hidden states":
        hidden = [_outputs(task, output) for output in outputs]
        flat = [state.flatten(0, -2) if state.dim() < 4 else state.flatten(1) for state in hidden]
        comparison.add_hidden(flat[0], flat[1:])
        pooled = [part.flatten(1) for output in outputs if (part := getattr(output, "pooler_output", None)) is not None]
        if pooled:
            comparison.add_hidden(pooled[0], pooled[1:], "pooled")
        return 0
    logits = [_outputs(task, output) for output in outputs]
    if task.gives == "labels":
        comparison.add_logits(logits[0], logits[1:], None, 0)
        return 0
    places = logits[0].shape[:2]
    chosen = torch.ones(places, dtype=torch.bool) if batch.scored is None else batch.scored
    chosen = chosen.to(logits[0].device)
    targets = None
    if batch.targets is not None:
        targets = batch.targets.to(logits[0].device)[chosen]
    rows = [part[chosen] for part in logits]
    comparison.add_logits(rows[0], rows[1:], targets, keep)
    return rows[0].shape[0]


def _outputs(task: tasks.Task, output: Any) -> Tensor:
    """The tensor of a model's output that is compared."""
    name = "last_hidden_state" if task.gives == "hidden states" else "logits"
    value = getattr(output, name, None)
    if not isinstance(value, Tensor):
        what = f"{type(output).__name__} without {name.replace('_', ' ')}"
        raise UnsupportedModel(f"The model gives {what}, so there is nothing to compare.", "Choose another model.")
    return value
