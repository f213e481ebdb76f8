"""Every tensor of a quantised file beside the original's, a few million numbers at a time."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.weights import numbers
from qfund.checkpoints.wild import against
from qfund.checkpoints.wild.filling import filled
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.core.errors import UnsupportedModel
from qfund.core.progress import Progress
from qfund.features.audit.request import Audit, AuditRequest, TensorAudit, checked, listed, of_head, opened

#: Numbers that are compared at once.
_AT_ONCE = 2 * 1024**2


def audit(request: AuditRequest, progress: Progress = lambda phase, share: None) -> Audit:
    """The file beside its original, or by its head alone where no original is named.

    Raises:
        QfundError: one of the two is not there or cannot be read, or the file is not made from this original.
    """
    request = checked(request)
    file = opened(request, progress)
    if not request.model:
        return listed(request.file, file, [of_head(name, tensor) for name, tensor in file.tensors.items()])
    original = _original(request, progress)
    packed, notes = filled(original, file).packed, against.notes(original, file)
    rows = [of_head(name, tensor) for name, tensor in packed.items()]
    if file.folded is None:
        places = checkpoint.places(original.folder)
        total, done = max(1, sum(tensor.elements for tensor in packed.values())), 0
        for number, (name, tensor) in enumerate(packed.items()):
            progress(f"comparing {name}", done / total)
            if name in places:
                rows[number] = _compared(rows[number], tensor, original, places)
            done += tensor.elements
    return replace(
        listed(request.file, file, rows),
        original=request.model,
        lent=tuple(name for name in original.tensors if name not in packed),
        notes=(*file.notes, *notes),
    )


def _original(request: AuditRequest, progress: Progress) -> Checkpoint:
    source = catalog.locate(request.model, request.revision)
    folder = source.folder
    if folder is None:
        from qfund.checkpoints import hub  # its client takes a second to import

        folder, _ = hub.download(source.name, source.revision, 1 << 42, progress)
    found = checkpoint.read(folder)
    if found.quantization is not None:
        raise UnsupportedModel(
            f"{request.model} is already quantised ({found.quantization.label}), so it is no original.",
            "Name the checkpoint that the file was made from.",
        )
    return found


def _compared(
    row: TensorAudit, tensor: PackedTensor, original: Checkpoint, places: Mapping[str, tuple[Path, int]]
) -> TensorAudit:
    stored = original.tensors[row.name]
    path, start = places[row.name]
    width = max(1, tensor.elements // max(1, tensor.rows))
    step = max(1, _AT_ONCE // width) if tensor.by_rows else tensor.rows
    signal = noise = largest = 0.0
    nonfinite, same = 0, True
    for first in range(0, tensor.rows, step):
        last = min(first + step, tensor.rows)
        own = numbers(path, stored.dtype, start, first * width, last * width).astype(np.float64)
        decoded: NDArray[np.float64] = tensor.decode(first, last).reshape(-1).astype(np.float64)
        same = same and bool(np.array_equal(own.astype(np.float32), decoded.astype(np.float32), equal_nan=True))
        good = np.isfinite(decoded)
        nonfinite += int(good.size - good.sum())
        difference = np.abs(own - decoded)[good]
        signal += float(np.square(own[good]).sum())
        noise += float(np.square(difference).sum())
        largest = max(largest, float(difference.max(initial=0.0)))
    return replace(
        row,
        sqnr=10 * math.log10(signal / noise) if noise and signal else None,
        same=same,
        largest=largest,
        nonfinite=nonfinite,
    )
