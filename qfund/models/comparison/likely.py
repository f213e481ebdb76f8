"""The most likely outputs of a position, equal ones in the order of their numbers."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qfund.core.intervals import Vector
from qfund.core.metrics.positions import TOP_K

_AT_ONCE = 128 * 1024  # logits that ``topk`` is given: a megabyte, which a cache holds


class Places:
    """Where in the part [count, width] of the vocabulary that begins with output ``start`` those outputs stand that a
    model finds most likely of it and all before: ``top`` [count, n], some of which are ``earlier`` [count, n]."""

    def __init__(self, top: Tensor, start: int, width: int) -> None:
        self.top, self.earlier = top, top < start
        self._start, self._width = start, width
        place, number = (~self.earlier).nonzero(as_tuple=True)
        found = place * width + (top[place, number] - start)
        self._found: Any = found.numpy() if top.device.type == "cpu" else found
        counted = (~self.earlier).sum(1).cumsum(0).tolist()
        self._until = [0, *counted]

    def of(self, logits: Tensor) -> Tensor:
        """[count, n], in double precision, of a part [count, width] of any model's logits; −∞ where it is earlier."""
        found = logits.gather(1, (self.top - self._start).clamp(min=0)).double()
        return found.masked_fill_(self.earlier, -torch.inf)

    def chosen(self, values: Tensor) -> Any:
        """Of [count, n] what is not earlier, one after the other; an array on a CPU."""
        found = values[~self.earlier]
        return found.numpy() if found.device.type == "cpu" else found

    def within(self, rows: slice) -> tuple[slice, Any]:
        """Which of the chosen are at these positions, and where in these rows alone, counted row after row."""
        part = slice(self._until[rows.start], self._until[rows.stop])
        return part, self._found[part] - rows.start * self._width

    @cached_property
    def by_number(self) -> Tensor:
        """[count, n]: the order of the numbers."""
        return self.top.argsort(1)


def agreement(top: NDArray[np.int64], values: Vector, others: Vector) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether ``top`` [count, n] of one model is the beginning of what another finds most likely, up to the first, the
    second, … of them: [count, n]. ``values`` [count, n] are the other's logits of those outputs, and ``others`` [count]
    its largest logit of any output else.

    Also the numbers of the positions where that is not decided: where one of them is as likely as an output else.
    """
    later = np.maximum.accumulate(np.column_stack([others, values[:, :0:-1]]), axis=1)[:, ::-1]
    first = values > later
    unsure = np.flatnonzero((values == later).any(1))
    if len(unsure):
        first[unsure], undecided = _among_equals(top[unsure], values[unsure], others[unsure])
        unsure = unsure[undecided]
    return np.logical_and.accumulate(first, axis=1), unsure


def _among_equals(
    top: NDArray[np.int64], values: Vector, others: Vector
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each of ``top`` comes before all later ones and all others, [count, n], and where that is not decided,
    [count]."""
    best, number = others, np.full(len(top), -1)  # of what comes later, in the order of ``top``
    first, tied = np.empty((2, *top.shape), dtype=bool)
    for place in reversed(range(top.shape[1])):
        value, own = values[:, place], top[:, place]
        equal = value == best
        first[:, place] = (value > best) | (equal & (own < number))
        tied[:, place] = equal & (number < 0)
        best, number = np.where(first[:, place], value, best), np.where(first[:, place], own, number)
    # What comes before the first that disagrees decides alone.
    undecided: NDArray[np.bool_] = (tied & np.logical_and.accumulate(first | tied, axis=1)).any(1)
    return first, undecided


def most_likely(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Values and numbers of the largest of each row, at most ``TOP_K``, equal ones in the order of their numbers."""
    count = min(TOP_K, logits.shape[1])
    parts = [
        part.topk(min(count + 1, part.shape[1]), dim=1) for part in logits.split(max(1, _AT_ONCE // logits.shape[1]))
    ]
    values, numbers = torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
    # In which order ``topk`` gives equal logits is anybody's guess, and which of them, where the last of all are equal.
    tied = ((values[:, 1:] == values[:, :-1]) | values[:, 1:].isnan()).any(1).nonzero()[:, 0]
    cut = tied[values[tied, -1] == values[tied, -2]] if values.shape[1] > count else tied[:0]
    values, numbers = values[:, :count], numbers[:, :count]
    if len(tied):
        by_number = numbers[tied].sort(dim=1)
        by_value = values[tied].gather(1, by_number.indices).sort(dim=1, descending=True, stable=True)
        values[tied], numbers[tied] = by_value.values, by_number.values.gather(1, by_value.indices)
    if len(cut):
        chosen = _in_order(logits[cut])[:, :count]
        values[cut], numbers[cut] = logits[cut].gather(1, chosen), chosen
    return values, numbers


def _in_order(logits: Tensor) -> Tensor:
    """Numbers of the largest of each row, equal ones in the order of their numbers; at least ``TOP_K``."""
    if logits.dtype == torch.float64:
        return logits.sort(dim=1, descending=True, stable=True).indices
    # A float32's bits, read as an integer, are in the order of the numbers; below them stands the place.
    bits = (logits.float() + 0.0).view(torch.int32)  # no negative zero
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() << 32
    ordered -= torch.arange(logits.shape[1], device=logits.device)
    return ordered.topk(min(TOP_K, logits.shape[1]), dim=1).indices
