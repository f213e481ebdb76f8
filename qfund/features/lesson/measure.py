"""The lesson's notebook, run on a model: print dtypes, cast, copy, run, look at a weight in several formats.

Every statement is an observation: identities of objects, addresses of memory, values before and after.
"""

import copy
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qfund.checkpoints import catalog, checkpoint, hub
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import NothingConverted, OutOfBudget
from qfund.core.progress import Progress
from qfund.core.units import bytes_text
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson.request.lesson import (
    FORMATS,
    LISTED,
    TOKENS,
    TOP,
    Bin,
    Cast,
    Copying,
    Count,
    Direct,
    Lesson,
    LessonRequest,
    LookedAt,
    Named,
    Output,
    WeightFormat,
    checked,
)
from qfund.models import environment, footprint, forward, inputs, prequantized, tasks
from qfund.models.cache import default_budget
from qfund.models.footprint import Footprint
from qfund.models.loading import read
from qfund.models.skeleton import predict
from qfund.precisions.quantizers.plan import plan_of
from qfund.precisions.quantizers.quantizer import dtype_name, quantizer_of
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION

#: Copies in float32 that are there at once.
_COPIES = 2

#: Rows and octaves of a weight that are looked at.
_ROWS, _OCTAVES = 1024, 14

#: Elements that are compared at once.
_PIECE = 4 * 1024**2

_NAMED = 3


def lesson(request: LessonRequest, progress: Progress = lambda phase, share: None) -> Lesson:
    """Do it.

    Raises:
        OutOfBudget: two copies in float32 are more than this process may hold.
        QfundError: anything that is wrong with the request or the model; see ``qfund.core.errors``.
    """
    request = checked(request)
    progress("reading the checkpoint", 0.0)
    source = catalog.locate(request.model, request.revision)
    folder, revision = source.folder, None
    if folder is None:
        folder, revision = hub.download(source.name, source.revision, default_budget(), progress)
    found = checkpoint.read(folder)
    prequantized.check(found, False, PRECISIONS["fp32"].label)
    task = tasks.task_of(found)
    _must_fit(found)
    prepared = inputs.prepare(Spec(request.model, max_tokens=TOKENS, revision=request.revision), source, found, task)
    batch = prepared.batches[0]
    gives = "hidden states" if task.gives == "hidden states" else "logits"

    progress("loading FP32", 0.1)
    model = read(found, "float32").to(torch.device(catalog.device()))
    run = _Runs(batch, gives)
    run.add(model, "float32")
    before = footprint.stored(model)

    progress("copying, and casting the copy to BF16", 0.3)
    untouched = _digest(model)
    second = copy.deepcopy(model)
    named = second  # what an assignment gives: another name
    seen = _seen(model, second, named)
    same = {name: (id(part), part.data_ptr()) for name, part in second.named_parameters()}
    returned = second.to(torch.bfloat16)
    after = footprint.stored(second)
    parts = dict(second.named_parameters())
    rounding = _rounding(model, second)
    copying = Copying(
        **seen,
        name_after=dtype_name(named.dtype),
        original_after=dtype_name(model.dtype),
        values_kept=_digest(model) == untouched,
        model_bytes=footprint.stored(model).bytes,
        copy_bytes=after.bytes,
    )
    same_parameters = sum(id(parts[name]) == known for name, (known, _) in same.items())
    same_storage = sum(parts[name].data_ptr() == place for name, (_, place) in same.items())
    progress("running BF16", 0.4)
    run.add(second, "bfloat16")

    progress("loading BF16 directly", 0.5)
    straight = read(found, "bfloat16").to(torch.device(catalog.device()))
    direct = _direct(straight, second, run)
    del straight
    second.to(torch.float32)
    cast = Cast(
        returned_itself=returned is second,
        parameters=len(same),
        same_parameters=same_parameters,
        same_storage=same_storage,
        bytes_before=before.bytes,
        bytes_after=after.bytes,
        lost=_different(model, second),
        **rounding,
    )
    del returned, named, parts

    progress("running FP16", 0.6)
    second = copy.deepcopy(model)
    run.add(second.to(torch.float16), "float16")
    del second
    progress("one weight in several formats", 0.8)
    position, shown, values = _shown(run.outputs, prepared, gives, task)
    return Lesson(
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        request=request,
        environment=environment.describe(found.id, revision),
        architecture=found.architecture,
        stored=_stored(found),
        before=_counts(before),
        after=_counts(after),
        listed=_listed(before, after),
        cast=cast,
        copying=copying,
        direct=direct,
        outputs=run.results(values),
        gives=gives,
        input=_input(prepared, batch),
        shown=shown,
        position=position,
        weight=_looked_at(model),
        notes=prepared.facts.notes,
    )


def _must_fit(found: Checkpoint) -> None:
    need, budget = _COPIES * predict(found, PRECISIONS["fp32"]).bytes, default_budget()
    if need > budget:
        raise OutOfBudget(
            f"{found.folder.name} and a copy of it in FP32 take {bytes_text(need)}; this process may hold "
            f"{bytes_text(budget)}.",
            "Choose a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
        )


def _stored(found: Checkpoint) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in found.tensors.values():
        sizes[tensor.dtype] += tensor.bytes
    return dict(sizes)


def _counts(counted: Footprint) -> tuple[Count, ...]:
    """Each memory once; weights before buffers."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in counted.tensors:
        if row.shared_with is None:
            sums = found.setdefault((row.kind, row.dtype), [0, 0, 0])
            for place, value in enumerate((1, math.prod(row.shape), row.bytes)):
                sums[place] += value
    return tuple(Count(*key, *sums) for key, sums in sorted(found.items(), key=lambda pair: pair[0][0] == "buffer"))


def _listed(before: Footprint, after: Footprint) -> tuple[Named, ...]:
    """Parameters in the model's order, then buffers, as ``named_parameters`` and ``named_buffers`` would."""
    later = {row.name: row.dtype for row in after.tensors}
    rows = [Named(row.name, row.kind, row.shape, row.dtype, later[row.name], row.bytes) for row in before.tensors]
    weights = [row for row in rows if row.kind == "weight"]
    buffers = [row for row in rows if row.kind != "weight"]
    return (*weights[: LISTED - min(len(buffers), LISTED // 4)], *buffers[: LISTED // 4])


def _ties(model: nn.Module) -> int:
    """Parameters that share another's memory."""
    places = [part.data_ptr() for _, part in model.named_parameters(remove_duplicate=False) if part.numel()]
    return len(places) - len(set(places))


def _shares(one: nn.Module, other: nn.Module) -> int:
    places = {name: part.data_ptr() for name, part in one.named_parameters()}
    return sum(places[name] == part.data_ptr() for name, part in other.named_parameters() if part.numel())


def _seen(model: Any, second: Any, named: Any) -> dict[str, int]:
    """What can be seen of a model, its deep copy and a second name for the copy before the cast."""
    return {
        "parameters": sum(1 for _ in model.parameters()),
        "name_shares": _shares(second, named),
        "copy_shares": _shares(model, second),
        "ties": _ties(model),
        "ties_kept": _ties(second),
    }


def _digest(model: nn.Module) -> str:
    """Of dtypes and all bits."""
    digest = hashlib.sha256()
    for name, part in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {part.dtype} {list(part.shape)}".encode())
        for piece in part.detach().flatten().split(_PIECE):
            digest.update(piece.cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _pairs(one: nn.Module, other: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of every float parameter of both models: whole embeddings in float64 would take more than the models."""
    others = dict(other.named_parameters())
    for name, part in one.named_parameters():
        if part.is_floating_point():
            yield from _pieces(part, others[name])


def _pieces(one: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(one.detach().flatten().split(_PIECE), other.detach().flatten().split(_PIECE), strict=True)


def _rounding(model: nn.Module, cast: nn.Module) -> dict[str, Any]:
    """Of every weight, tied ones once: how many the cast changed, and by how much at most."""
    weights = rounded = overflowed = 0
    largest, least = 0.0, torch.finfo(torch.bfloat16).smallest_normal
    for part, other in _pairs(model, cast):
        now = other.to(part.dtype)
        finite = part.isfinite()
        weights += int(finite.sum())
        rounded += int(((part != now) & finite).sum())
        overflowed += int((finite & ~now.isfinite()).sum())
        normal = finite & now.isfinite() & (part.abs() >= least)
        if normal.any():
            change = ((now[normal].double() - part[normal].double()) / part[normal].double()).abs()
            largest = max(largest, change.max().item())
    return {"weights": weights, "rounded": rounded, "largest_relative": largest, "overflowed": overflowed}


def _different(one: nn.Module, other: nn.Module) -> int:
    return sum(int(((part != back) & part.isfinite()).sum()) for part, back in _pairs(one, other))


def _direct(straight: Any, cast: Any, run: "_Runs") -> Direct:
    def tensors(model: nn.Module) -> dict[str, Tensor]:
        return dict(model.named_parameters()) | dict(model.named_buffers())

    mine, others = tensors(straight), tensors(cast)
    different = [
        name
        for name, part in mine.items()
        if name not in others or part.dtype != others[name].dtype or not torch.equal(part, others[name])
    ]
    return Direct(
        tensors=len(mine),
        equal=len(mine) - len(different),
        different=tuple(different[:_NAMED]),
        largest=run.difference(straight, "bfloat16"),
        bytes=footprint.stored(straight).bytes,
    )


class _Distance(NamedTuple):
    """Mean and largest |difference|, None where no pair is finite, and how many pairs are not."""

    mean: float | None
    largest: float | None
    nonfinite: int


def _distance(one: Tensor, other: Tensor) -> _Distance:
    total, largest, count = 0.0, 0.0, 0
    for left, right in _pieces(one, other):
        change = (left.double() - right.double()).abs()
        change = change[change.isfinite()]
        if change.numel():
            total += change.sum().item()
            largest = max(largest, change.max().item())
            count += change.numel()
    nonfinite = one.numel() - count
    return _Distance(total / count, largest, nonfinite) if count else _Distance(None, None, nonfinite)


class _Runs:
    """Forwards on one batch, compared with the first."""

    def __init__(self, batch: inputs.Batch, gives: str) -> None:
        self._batch = batch
        self._name = "last_hidden_state" if gives == "hidden states" else "logits"
        self._returned: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self.outputs: dict[str, Tensor] = {}

    def add(self, model: Any, dtype: str) -> None:
        """What fails is told, but float32 must run."""
        try:
            output = self._forward(model, dtype)
        except RuntimeError as error:  # a kernel that does not know the dtype
            if dtype == "float32":
                raise
            self._problems[dtype] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return
        self.outputs[dtype] = output
        self._returned[dtype] = dtype_name(output.dtype)

    def _forward(self, model: Any, dtype: str) -> Tensor:
        row = next(row for row in PRECISIONS.values() if row.dtype == dtype and row.quantizer is None)
        output: Tensor = getattr(forward.run(model, self._batch, row), self._name)
        return output

    def difference(self, model: Any, dtype: str) -> float | None:
        """The largest |difference| of another model's outputs from those that are known in this dtype."""
        if dtype not in self.outputs:
            return None
        return _distance(self._forward(model, dtype), self.outputs[dtype]).largest

    def results(self, values: dict[str, tuple[float, ...]]) -> tuple[Output, ...]:
        reference = self.outputs["float32"]
        results = []
        for dtype in ("float32", "bfloat16", "float16"):
            if dtype in self._problems:
                results.append(Output(dtype, problem=self._problems[dtype]))
                continue
            found = _distance(self.outputs[dtype], reference)
            compared = dtype != "float32"
            results.append(
                Output(
                    dtype=dtype,
                    returned=self._returned[dtype],
                    values=values[dtype],
                    mean=found.mean if compared else None,
                    largest=found.largest if compared else None,
                    nonfinite=found.nonfinite,
                )
            )
        return tuple(results)


def _shown(
    outputs: dict[str, Tensor], prepared: inputs.Prepared, gives: str, task: tasks.Task
) -> tuple[int | None, tuple[str, ...], dict[str, tuple[float, ...]]]:
    """The position that is shown, names of the few largest outputs of float32 there, and their values by dtype."""
    reference = outputs["float32"][0].double()
    position = None
    if reference.dim() > 1:
        position = 0 if reference.dim() > 2 else reference.shape[0] - 1
        reference = reference[position].flatten()
    count = min(TOP, reference.numel())
    order = reference.nan_to_num().topk(count).indices if gives == "logits" else torch.arange(count)
    # In their own order where all are shown.
    order = order.sort().values if count == reference.numel() else order
    names = tuple(_name(prepared, task, gives, int(place)) for place in order)
    values = {}
    for dtype, output in outputs.items():
        flat = output[0] if position is None else output[0][position].flatten()
        values[dtype] = tuple(flat[order].double().tolist())
    return position, names, values


def _name(prepared: inputs.Prepared, task: tasks.Task, gives: str, place: int) -> str:
    if gives == "hidden states":
        return f"dimension {place}"
    if task.gives == "tokens" and prepared.tokenizer is not None:
        return repr(str(prepared.tokenizer.decode([place])))
    return f"class {place}"


def _input(prepared: inputs.Prepared, batch: inputs.Batch) -> str:
    ids = batch.arguments.get("input_ids")
    if ids is None:
        return f"{len(next(iter(batch.arguments.values())))} pictures"
    if ids.numel() <= 8:
        return f"input_ids {ids.tolist()}"
    return f"{ids.shape[0]} × {ids.shape[1]} tokens of the {prepared.facts.source}"


def _looked_at(model: nn.Module) -> LookedAt | None:
    """The largest weight that quantisers convert; None where there is none, or it is not finite."""
    try:
        groups = plan_of(model, PRECISIONS["int8"]).groups
    except NothingConverted:
        return None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen = max((group[0] for group in groups), key=lambda weight: parameters[weight.name].numel())
    matrix = chosen.view.flat(parameters[chosen.name].detach())
    part = matrix[:_ROWS].float().contiguous()
    if not part.isfinite().all() or not part.any():
        return None
    return LookedAt(
        name=chosen.name,
        shape=tuple(matrix.shape),
        rows=part.shape[0],
        largest=part.abs().max().item(),
        formats=tuple(_in_format(part, name) for name in FORMATS),
    )


def _in_format(weight: Tensor, name: str) -> WeightFormat:
    row = PRECISIONS[name]
    quantizer = quantizer_of(row)
    step = None
    if quantizer is None:
        back = weight.to(getattr(torch, row.dtype)).float()
        bits = float(row.bits)
    else:
        stored = quantizer.quantize(weight)
        shape = weight.shape[0], weight.shape[1]
        back = quantizer.dequantize(stored, shape, weight.dtype)
        bits = 8 * sum(part.numel() * part.element_size() for part in stored.values()) / weight.numel()
        step = stored["scale"].flatten()[0].item() if quantizer.element.startswith("int") else None
    exact, error = weight.double(), (back.double() - weight.double()).abs()
    noise = error.square().sum().item()
    return WeightFormat(
        precision=name,
        bits=bits,
        sqnr=10 * math.log10(exact.square().sum().item() / noise) if noise else None,
        mean=error.mean().item(),
        largest=error.max().item(),
        distinct=int(back[0].unique().numel()),
        step=step,
        bins=tuple(_bins(exact.abs().flatten(), error.flatten())),
    )


def _bins(magnitude: Tensor, error: Tensor) -> Iterable[Bin]:
    """Octaves of |weight| from the largest down."""
    exponents = torch.frexp(magnitude).exponent - 1  # of 0 too, which no octave holds
    top = int(exponents[magnitude > 0].max())
    for exponent in range(top - _OCTAVES + 1, top + 1):
        chosen = (exponents == exponent) & (magnitude > 0)
        if count := int(chosen.sum()):
            yield Bin(exponent, count, error[chosen].mean().item(), magnitude[chosen].mean().item())
