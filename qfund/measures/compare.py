"""The comparison: load the reference and the candidates, run them on the same input, and report what differs."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund import catalog, checkpoint, environment, hub, inputs, tasks
from qfund.errors import OutOfBudget, UnsupportedModel
from qfund.footprint import Footprint, predict
from qfund.loading import LoadedModel, ModelCache, default_budget
from qfund.measures import tokens
from qfund.measures.fidelity import Candidate, Comparison
from qfund.metrics import Estimate, estimates, perplexity_of
from qfund.precisions import PRECISIONS
from qfund.report import SCHEMA, ModelFacts, PrecisionResult, Report
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
    task = tasks.task_of(found)
    prepared = inputs.prepare(spec, source, found, task)
    predictions = {name: predict(found, PRECISIONS[name]) for name in (spec.reference, *spec.precisions)}
    sizes = {name: prediction.bytes for name, prediction in predictions.items()}
    run = _Run(found, task, prepared, predictions, progress)
    run.run(spec.reference, groups(spec.reference, spec.precisions, sizes, model_cache().budget))
    assert run.reference is not None
    map_of_tokens = tokens.token_map(prepared, run.comparison, task)
    return Report(
        schema=SCHEMA,
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        environment=environment.describe(found.id, revision),
        model=ModelFacts(found.architecture, task.name, predictions[spec.reference].parameters, _stored_dtypes(found)),
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
        found: checkpoint.Checkpoint,
        task: tasks.Task,
        prepared: inputs.Prepared,
        predictions: dict[str, Footprint],
        progress: Progress,
    ) -> None:
        self.found, self.task, self.prepared = found, task, prepared
        self.predictions, self.progress = predictions, progress
        self.reference: PrecisionResult | None = None
        self.results: dict[str, PrecisionResult] = {}
        self.comparison = Comparison({})

    def run(self, reference: str, grouped: Sequence[Sequence[str]]) -> None:
        """Load and run the reference beside each group of candidates in turn."""
        # One step of the bar is a model loaded, or a model run on one batch.
        steps = sum((1 + len(group)) * (1 + len(self.prepared.batches)) for group in grouped)
        done = 0

        def step(phase: str) -> None:
            nonlocal done
            self.progress(phase, done / steps)
            done += 1

        for group in grouped:
            self._run_group(reference, group, step)

    def _run_group(self, reference: str, candidates: Sequence[str], step: Callable[[str], None]) -> None:
        names = [reference, *candidates]
        comparison = Comparison({name: Candidate() for name in candidates})
        seconds = [0.0] * len(names)
        with ExitStack() as stack:
            loaded: list[LoadedModel] = []
            for name in names:
                step(f"loading {PRECISIONS[name].label}")
                lease = model_cache().lease(self.found, PRECISIONS[name], self.predictions[name].bytes)
                loaded.append(stack.enter_context(lease))
            kept = 0
            for number, batch in enumerate(self.prepared.batches, 1):
                outputs: list[Any] = []
                for index, model in enumerate(loaded):
                    step(f"running {PRECISIONS[names[index]].label}, batch {number} of {len(self.prepared.batches)}")
                    started = time.perf_counter()
                    outputs.append(_forward(model.model, batch, PRECISIONS[names[index]].label))
                    seconds[index] += time.perf_counter() - started
                kept += _compare(comparison, self.task, batch, outputs, max(0, tokens.SHOWN - kept))
            if self.reference is None:
                fidelity = _own_perplexity(comparison.reference)
                self.reference = self._result(reference, loaded[0], comparison.reference, fidelity, seconds[0])
                self.comparison.reference = comparison.reference
            for name, model, spent in zip(candidates, loaded[1:], seconds[1:], strict=True):
                candidate = comparison.candidates[name]
                self.results[name] = self._result(name, model, candidate, estimates(candidate.positions()), spent)
        self.comparison.candidates |= comparison.candidates

    def _result(
        self, name: str, loaded: LoadedModel, measured: Candidate, fidelity: dict[str, Estimate], seconds: float
    ) -> PrecisionResult:
        counted, plan = loaded.footprint, loaded.plan
        return PrecisionResult(
            precision=name,
            footprint_bytes=counted.bytes,
            predicted_bytes=self.predictions[name].bytes,
            transformers_bytes=loaded.transformers_bytes,
            parts=counted.parts,
            dtypes=counted.dtypes,
            converted=len(plan.converted) if plan else 0,
            left=len(plan.left) if plan else 0,
            fidelity=fidelity,
            nonfinite_positions=measured.nonfinite,
            forward_seconds=seconds,
            tensors=counted.tensors,
            left_modules=plan.left if plan else (),
            differences=measured.histogram() if measured.vectors.keys() & {"mean_abs", "hidden_mean_abs"} else None,
        )


def _own_perplexity(reference: Candidate) -> dict[str, Estimate]:
    nll = reference.vector("nll_candidate")
    found = None if nll is None or not len(nll) else perplexity_of(nll)
    return {"perplexity": found} if found and math.isfinite(found.value) else {}


def _stored_dtypes(found: checkpoint.Checkpoint) -> dict[str, int]:
    """dtype as stored → bytes in the checkpoint's files."""
    sizes: dict[str, int] = {}
    for tensor in found.tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
    return sizes


@torch.inference_mode()
def _forward(model: Any, batch: inputs.Batch, label: str) -> Any:
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return model(**arguments)
    except Exception as error:  # models raise whatever their code and torch's kernels raise
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
            raise
        raise UnsupportedModel(
            f"{type(model).__name__} cannot be run in {label} here: {type(error).__name__}: {error}",
            "Choose another model or precision.",
        ) from error


@torch.inference_mode()
def _compare(comparison: Comparison, task: tasks.Task, batch: inputs.Batch, outputs: list[Any], keep: int) -> int:
    """Add one batch's outputs (the reference's first); how many positions went towards the token map."""
    if task.gives == "hidden states":
        hidden = [_required(output, "last_hidden_state") for output in outputs]
        flat = [state.flatten(0, -2) if state.dim() < 4 else state.flatten(1) for state in hidden]
        comparison.add_hidden(flat[0], flat[1:])
        pooled = [part.flatten(1) for output in outputs if (part := getattr(output, "pooler_output", None)) is not None]
        if pooled:
            comparison.add_hidden(pooled[0], pooled[1:], "pooled")
        return 0
    logits = [_required(output, "logits") for output in outputs]
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


def _required(output: Any, name: str) -> Tensor:
    value = getattr(output, name, None)
    if not isinstance(value, Tensor):
        what = f"{type(output).__name__} without {name.replace('_', ' ')}"
        raise UnsupportedModel(f"The model gives {what}, so there is nothing to compare.", "Choose another model.")
    return value
