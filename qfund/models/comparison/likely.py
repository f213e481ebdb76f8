"""The most likely outputs of a position, equal ones in the order of their numbers."""

import torch
from torch import Tensor

from qfund.core.metrics.positions import TOP_K

_AT_ONCE = 128 * 1024  # logits that ``topk`` is given: a megabyte, which a cache holds


def agreement(top: Tensor, values: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Whether ``top`` [count, n] of one model is the beginning of what another finds most likely, up to the first, the
    second, … of them: [count, n] of 1 and 0. ``values`` [count, n] are the other's logits of those outputs, and
    ``others`` [count] its largest logit of any output else.

    Also the numbers of the positions where that is not decided: where one of them is as likely as an output else.
    """
    later = torch.cat([values[:, 1:], others[:, None]], 1).flip(1).cummax(1).values.flip(1)
    first = values > later
    if not bool((values == later).any()):
        return first.cumprod(1), torch.empty(0, dtype=torch.int64)
    best, number = others, torch.full_like(top[:, 0], -1)  # of what comes later, in the order of ``top``
    first, tied = torch.empty((2, *top.T.shape), dtype=torch.bool)
    for place in reversed(range(top.shape[1])):
        value, own = values[:, place], top[:, place]
        equal = value == best
        first[place] = (value > best) | (equal & (own < number))
        tied[place] = equal & (number < 0)
        best, number = torch.where(first[place], value, best), torch.where(first[place], own, number)
    # What comes before the first that disagrees decides alone.
    unsure = tied & (first | tied).cumprod(0).bool()
    return first.T.cumprod(1), unsure.any(0).nonzero()[:, 0]


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
