"""The lesson's notebook, run on a model: print dtypes, cast, copy, run, look at a weight in several formats.

Every statement is an observation: identities of objects, addresses of memory, values before and after.
"""

import copy
import math
from collections import Counter
from datetime import UTC, datetime

import torch

from qfund.checkpoints import catalog, checkpoint, hub
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import OutOfBudget
from qfund.core.progress import Progress
from qfund.core.units import bytes_text
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson.measure.copies import CastCopy, direct_load
from qfund.features.lesson.measure.outputs import Forwards, shown_values
from qfund.features.lesson.measure.weight import in_formats
from qfund.features.lesson.request.notebook import (
    LISTED,
    TOKENS,
    ListedTensor,
    Notebook,
    NotebookRequest,
    TensorCount,
    checked,
)
from qfund.models import environment, inputs, prequantized, tasks
from qfund.models.cache import default_budget
from qfund.models.footprint import Footprint
from qfund.models.loading import read
from qfund.models.skeleton import predict
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION

#: Copies in float32 that are there at once.
_COPIES = 2


def notebook(request: NotebookRequest, progress: Progress = lambda phase, share: None) -> Notebook:
    """Run the notebook on a model.

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
    gives = "hidden states" if task.gives == "hidden states" else "logits"
    progress("loading FP32", 0.1)
    device = torch.device(catalog.device())
    model = read(found, "float32").to(device)
    forwards = Forwards(prepared.batches[0], gives)
    forwards.add(model, "float32")
    progress("copying, and casting the copy to BF16", 0.3)
    copied = CastCopy(model)
    progress("running BF16", 0.4)
    forwards.add(copied.model, "bfloat16")
    progress("loading BF16 directly", 0.5)
    straight = read(found, "bfloat16").to(device)
    direct = direct_load(straight, copied.model, forwards.difference(straight, "bfloat16"))
    del straight
    cast = copied.cast_back()
    progress("running FP16", 0.6)
    forwards.add(copy.deepcopy(model).to(torch.float16), "float16")
    progress("one weight in several formats", 0.8)
    position, shown, values = shown_values(forwards.outputs, prepared, gives, task)
    return Notebook(
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        request=request,
        environment=environment.describe(found.id, revision),
        architecture=found.architecture,
        stored=_stored(found),
        before=_counts(copied.before),
        after=_counts(copied.after),
        listed=_listed(copied.before, copied.after),
        cast=cast,
        copying=copied.copies,
        direct=direct,
        outputs=forwards.results(values),
        gives=gives,
        input=_input(prepared),
        shown=shown,
        position=position,
        weight=in_formats(model),
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


def _counts(counted: Footprint) -> tuple[TensorCount, ...]:
    """Each memory once; weights before buffers."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in counted.tensors:
        if row.shared_with is None:
            sums = found.setdefault((row.kind, row.dtype), [0, 0, 0])
            for place, value in enumerate((1, math.prod(row.shape), row.bytes)):
                sums[place] += value
    return tuple(
        TensorCount(*key, *sums) for key, sums in sorted(found.items(), key=lambda pair: pair[0][0] == "buffer")
    )


def _listed(before: Footprint, after: Footprint) -> tuple[ListedTensor, ...]:
    """Parameters in the model's order, then buffers, as ``named_parameters`` and ``named_buffers`` would."""
    later = {row.name: row.dtype for row in after.tensors}
    rows = [
        ListedTensor(row.name, row.kind, row.shape, row.dtype, later[row.name], row.bytes) for row in before.tensors
    ]
    weights = [row for row in rows if row.kind == "weight"]
    buffers = [row for row in rows if row.kind != "weight"]
    return (*weights[: LISTED - min(len(buffers), LISTED // 4)], *buffers[: LISTED // 4])


def _input(prepared: inputs.Prepared) -> str:
    """What was run on, in words."""
    batch = prepared.batches[0]
    ids = batch.arguments.get("input_ids")
    if ids is None:
        return f"{len(next(iter(batch.arguments.values())))} pictures"
    if ids.numel() <= 8:
        return f"input_ids {ids.tolist()}"
    return f"{ids.shape[0]} × {ids.shape[1]} tokens of the {prepared.facts.source}"
