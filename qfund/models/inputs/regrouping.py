"""The same examples in batches of another size."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from qfund.models.inputs.batch import Batch


def regrouped(batches: Sequence[Batch], times: float) -> list[Batch]:
    """Texts in the same order, so many times as many at once: two at least, neighbours of one length. Who is alone in
    its batch stays alone, as some models need it; pictures stay as they are."""
    found: list[Batch] = []
    for _, run in groupby(batches, key=_shape):
        held = list(run)
        count = max(len(batch.chunks) for batch in held)
        size = max(2, int(count * times)) if count > 1 else 1
        if size == count or "input_ids" not in held[0].arguments:
            found += held
        else:
            found += _split(_joined(held), size)
    return found


def _shape(batch: Batch) -> tuple[object, ...]:
    """What is equal of batches that can be one."""
    parts = [(name, part.shape[1:], part.dtype) for name, part in batch.arguments.items()]
    return *parts, batch.targets is None


def _joined(batches: Sequence[Batch]) -> Batch:
    first = batches[0]
    scored = None
    if any(batch.scored is not None for batch in batches):
        scored = torch.cat([_scored(batch) for batch in batches])
    return Batch(
        {name: torch.cat([batch.arguments[name] for batch in batches]) for name in first.arguments},
        None if first.targets is None else torch.cat([_there(batch.targets) for batch in batches]),
        scored,
        torch.cat([batch.chunks for batch in batches]),
    )


def _scored(batch: Batch) -> Tensor:
    like = batch.arguments["input_ids"] if batch.targets is None else batch.targets
    return torch.ones_like(like, dtype=torch.bool) if batch.scored is None else batch.scored


def _there(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _split(batch: Batch, size: int) -> Iterable[Batch]:
    for start in range(0, len(batch.chunks), size):
        part = slice(start, start + size)
        yield Batch(
            {name: given[part] for name, given in batch.arguments.items()},
            None if batch.targets is None else batch.targets[part],
            None if batch.scored is None else batch.scored[part],
            batch.chunks[part],
        )
