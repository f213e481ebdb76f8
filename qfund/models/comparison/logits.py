"""Exact statistics of logits, position by position, gathered a part of the vocabulary at a time, in double precision.

With a the reference's and b the candidate's logits of a position, d = a − b, and Z the sum of the exponentials:
KL(p ‖ q) = Σ p·d + ln Z_b − ln Z_a, KL(q ‖ p) = −Σ q·d + ln Z_a − ln Z_b. So nothing but sums over the vocabulary is
needed, equal logits give exactly 0, and no two large numbers are subtracted: both ln Z begin at the largest logit.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from qfund.core.metrics.positions import TOP_K

_TILE = 128 * 1024  # elements of logits in double precision at once: a megabyte, which a cache holds


class Distribution:
    """The logits of one model at ``count`` positions.

    Attributes:
        largest: [count], the largest logit; ``total`` is Σ exp(logit − largest), ``square`` Σ logit².
        top, top_logits: [count, ≤ TOP_K], the most likely outputs, equal ones in the order of their numbers.
        target: [count], the logit of the correct output, NaN where there is none.
        finite: [count].
    """

    def __init__(self, count: int, device: torch.device) -> None:
        def full(value: float) -> Tensor:
            return torch.full((count,), value, dtype=torch.float64, device=device)

        self.largest, self.target = full(-torch.inf), full(torch.nan)
        self.total, self.square = full(0.0), full(0.0)
        self.finite = torch.ones(count, dtype=torch.bool, device=device)
        self.top = torch.empty((count, 0), dtype=torch.int64, device=device)
        self.top_logits = torch.empty((count, 0), dtype=torch.float64, device=device)

    def log_total(self) -> Tensor:
        """ln Σ exp(logit)."""
        found: Tensor = self.largest + self.total.log()
        return found

    def likely(self, start: int, logits: Tensor) -> None:
        """Take a part of the vocabulary into ``top``."""
        values, numbers = most_likely(logits)
        values = torch.cat([self.top_logits, values.double()], 1)
        numbers = torch.cat([self.top, numbers + start], 1)
        # What came earlier has lower numbers, so a stable sort keeps equal ones in order.
        order = values.sort(dim=1, descending=True, stable=True).indices[:, :TOP_K]
        self.top_logits, self.top = values.gather(1, order), numbers.gather(1, order)

    def weigh(self, rows: slice, exact: Tensor) -> tuple[Tensor, Tensor]:
        """Take a part [rows, part] of the vocabulary into ``total``: exp(logit − largest) of it, and by what sums over
        earlier parts have to be multiplied now."""
        before = self.largest[rows]
        largest = torch.maximum(before, exact.amax(1))
        # Infinities would give NaN here; such positions are left out in the end.
        shrunk = torch.where(before == largest, 1.0, (before - largest).exp())
        weights = (exact - largest[:, None]).exp_()
        total = weights.sum(1)
        self.total[rows] = self.total[rows] * shrunk + total
        self.largest[rows] = largest
        square = torch.linalg.vector_norm(exact, dim=1).square_()
        self.square[rows] += square
        # One value that is not finite makes this sum so; logits of 16 and 32 bits cannot overflow in double precision.
        self.finite[rows] &= square.isfinite()
        return weights, shrunk


class Difference:
    """A candidate's logits against the reference's, at ``count`` positions.

    Attributes:
        forward: Σ exp(a − max a)·d and ``reverse`` Σ exp(b − max b)·d; ``absolute`` Σ |d|, ``largest`` max |d| and
            ``square`` Σ d², all [count].
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.distribution = Distribution(count, device)
        self.forward, self.reverse, self.absolute, self.largest, self.square = torch.zeros(
            (5, count), dtype=torch.float64, device=device
        )


class Logits:
    """Logits of the reference and of the candidates at some positions."""

    def __init__(self, names: Iterable[str], count: int, targets: Tensor | None, device: torch.device):
        """``targets`` [count] holds the correct output, negative for none."""
        self.reference = Distribution(count, device)
        self.differences = {name: Difference(count, device) for name in names}
        self.outputs = 0
        self.targets = targets
        #: |d| of finite logits, rounded to bfloat16: how many there are of each, by its bits without the sign.
        self.counts = {name: torch.zeros(_CODES, dtype=torch.int64) for name in self.differences}

    def add(self, start: int, reference: Tensor, others: Mapping[str, Tensor]) -> None:
        """The part [count, part] of the vocabulary that begins with output ``start``, in order."""
        self.outputs = start + reference.shape[1]
        self._note_targets(self.reference, start, reference)
        self.reference.likely(start, reference)
        for name, other in others.items():
            self._note_targets(self.differences[name].distribution, start, other)
            self.differences[name].distribution.likely(start, other)
        step = max(1, _TILE // reference.shape[1])
        for first in range(0, reference.shape[0], step):
            rows = slice(first, first + step)
            exact = reference[rows].double()
            weights, shrunk = self.reference.weigh(rows, exact)
            for name, other in others.items():
                self._compare(self.differences[name], self.counts[name], rows, exact, weights, shrunk, other[rows])

    def _compare(
        self,
        found: Difference,
        counts: Tensor,
        rows: slice,
        reference: Tensor,
        reference_weights: Tensor,
        reference_shrunk: Tensor,
        other: Tensor,
    ) -> None:
        exact = other.to(torch.float64, copy=True)  # it is written to below
        weights, shrunk = found.distribution.weigh(rows, exact)
        difference = torch.sub(reference, exact, out=exact)
        found.forward[rows] *= reference_shrunk
        found.forward[rows] += torch.mul(reference_weights, difference).sum(1)
        found.reverse[rows] *= shrunk
        found.reverse[rows] += weights.mul_(difference).sum(1)
        found.square[rows] += torch.linalg.vector_norm(difference, dim=1).square_()
        absolute = difference.abs_()
        found.absolute[rows] += absolute.sum(1)
        found.largest[rows] = torch.maximum(found.largest[rows], absolute.amax(1))
        finite = self.reference.finite[rows] & found.distribution.finite[rows]
        kept = absolute if bool(finite.all()) else absolute[finite]
        counts += count_by_code(kept)

    def _note_targets(self, found: Distribution, start: int, logits: Tensor) -> None:
        if self.targets is None:
            return
        here = (self.targets >= start) & (self.targets < start + logits.shape[1])
        places = here.nonzero()[:, 0]
        found.target[places] = logits[places, self.targets[places] - start].double()


def count_by_code(absolute: Tensor) -> Tensor:
    """How many of these numbers, none below zero, are which after rounding to bfloat16: by its bits, on the CPU."""
    codes = absolute.to(torch.bfloat16).flatten().view(torch.int16)
    return torch.bincount(codes.to(torch.int32), minlength=_CODES).cpu()


_CODES = 0x7F80 + 1  # of bfloat16: zero … infinity


def most_likely(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Values and numbers of the largest of each row, at most ``TOP_K``, equal ones in the order of their numbers."""
    count = min(TOP_K, logits.shape[1])
    parts = [part.topk(min(count + 1, part.shape[1]), dim=1) for part in logits.split(max(1, _TILE // logits.shape[1]))]
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
