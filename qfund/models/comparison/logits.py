"""Exact statistics of logits, position by position, gathered a part of the vocabulary at a time, in double precision.

With a the reference's and b the candidate's logits of a position, d = a − b, and Z the sum of the exponentials:
KL(p ‖ q) = Σ p·d + ln Z_b − ln Z_a, KL(q ‖ p) = −Σ q·d + ln Z_a − ln Z_b. So nothing but sums over the vocabulary is
needed, equal logits give exactly 0, and no two large numbers are subtracted: the two Z are divided by each other.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qfund.core.metrics.positions import TOP_K
from qfund.models.comparison.likely import agreement, most_likely
from qfund.models.comparison.tiles import Counts, Sheet, Tile, dots, in_tiles, sums

Vector = NDArray[np.float64]
#: Logits whose exponentials, and the sums of those, are far from the end of double precision as they are.
_SAFE = 300.0


class Distribution:
    """The logits of one model at ``count`` positions. What is summed up lies on the CPU, wherever logits are.

    Attributes:
        largest: [count], the largest logit; ``total`` is Σ exp(logit − offset), ``square`` Σ logit².
        offset: [count]: 0, but for positions whose exponentials would leave double precision: there ``largest``.
        target: [count], the logit of the correct output, NaN where there is none.
        top, top_logits: [count, ≤ TOP_K], the most likely outputs, equal ones in the order of their numbers; on the
            device of the logits.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        def full(value: float) -> Tensor:
            return torch.full((count,), value, dtype=torch.float64)

        self.largest, self.offset, self.target = full(-torch.inf), full(-torch.inf), full(torch.nan)
        self._largest, self._offset = self.largest.numpy(), self.offset.numpy()
        self._sums = np.zeros((2, count))
        self.total, self.square = map(torch.from_numpy, self._sums)
        self.top = torch.empty((count, 0), dtype=torch.int64, device=device)
        self.top_logits = torch.empty((count, 0), dtype=torch.float64, device=device)
        self._logits: Tensor | None = None
        self._plain = True

    @property
    def finite(self) -> Tensor:
        """[count]. One logit that is not finite makes the sum of squares so; those of 16 and 32 bits cannot overflow
        in double precision."""
        return self.square.isfinite()

    def finite_at(self, rows: slice) -> NDArray[np.bool_]:
        """As ``finite``, of some positions, as far as parts were taken."""
        return np.isfinite(self._sums[1, rows])

    def log_total(self) -> Tensor:
        """ln Σ exp(logit)."""
        found: Tensor = self.offset + self.total.log()
        return found

    def confidence(self) -> Tensor:
        """The probability of the most likely output."""
        found: Tensor = (self.largest - self.offset).exp() / self.total
        return found

    def whole(self, logits: Tensor) -> None:
        """All of the vocabulary, to be looked up in when somebody asks what was likely; ``reach`` is told the peaks."""
        self._logits = logits

    def likely(self, start: int, logits: Tensor) -> None:
        """Take a part of the vocabulary into ``top``."""
        if not start:
            values, self.top = most_likely(logits)
            self.top_logits = values.double()
            self.reach(slice(None), self.top_logits[:, 0].cpu().numpy())
            return
        peaks = logits.amax(1)
        self.reach(slice(None), peaks.double().cpu().numpy())
        # What came earlier has lower numbers, so that equal ones change nothing, and a stable sort keeps the order.
        few = self.top.shape[1] < TOP_K
        rows = slice(None) if few else (peaks > self.top_logits[:, -1]).nonzero()[:, 0]
        values, numbers = most_likely(logits[rows])
        values = torch.cat([self.top_logits[rows], values.double()], 1)
        numbers = torch.cat([self.top[rows], numbers + start], 1)
        order = values.sort(dim=1, descending=True, stable=True).indices[:, :TOP_K]
        values, numbers = values.gather(1, order), numbers.gather(1, order)
        if few:
            self.top_logits, self.top = values, numbers
        else:
            self.top_logits[rows], self.top[rows] = values, numbers

    def most_likely(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """``top_logits`` and ``top`` of some positions, on the CPU."""
        places = places.to(self.top.device)
        if self._logits is None:
            return self.top_logits[places].cpu(), self.top[places].cpu()
        values, numbers = most_likely(self._logits[places])
        return values.double().cpu(), numbers.cpu()

    def reach(self, rows: slice, peaks: Vector) -> None:
        """The largest logits of the next part at some positions."""
        np.maximum(self._largest[rows], peaks, out=self._largest[rows])
        # Infinities and what is no number are not safe either.
        if not (np.abs(self._largest[rows]) <= _SAFE).all():
            self._plain = False

    def weigh(self, rows: slice, logits: Sheet, weights: Sheet) -> Vector | None:
        """Take a part [rows, part] of the vocabulary into ``total`` and ``square``: exp(logit − offset) of it goes to
        ``weights``. Gives by what sums over earlier parts have to be multiplied now, None for 1."""
        shrunk = None
        total, square = self._sums[:, rows]
        if self._plain:
            self._offset[rows] = 0.0
            torch.exp(logits.tensor, out=weights.tensor)
        else:
            offset, reached = self._offset[rows], self._largest[rows]
            now = np.where(np.abs(reached) <= _SAFE, 0.0, reached)
            # Infinities would give NaN here; such positions are left out in the end.
            shrunk = np.where(offset == now, 1.0, np.exp(offset - now))
            torch.sub(
                logits.tensor, torch.from_numpy(now).to(weights.tensor.device)[:, None], out=weights.tensor
            ).exp_()
            offset[:] = now
            total *= shrunk
        total += sums(weights.tensor)
        square += dots(logits, logits)
        return shrunk


class Difference:
    """A candidate's logits against the reference's, at ``count`` positions.

    Attributes:
        forward: Σ exp(a − offset of a)·d and ``reverse`` Σ exp(b − offset of b)·d; ``absolute`` Σ |d|, ``largest``
            max |d| and ``square`` Σ d², all [count].
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.distribution = Distribution(count, device)
        self._sums = np.zeros((5, count))
        self.forward, self.reverse, self.absolute, self.largest, self.square = map(torch.from_numpy, self._sums)
        self._same: Tensor | None = None
        self._rest, self._likely = torch.empty(0, dtype=torch.float64), np.zeros(0)

    def begin(self, reference: Distribution, other: Tensor) -> None:
        """All of the vocabulary comes at once, and what the reference finds likely is known."""
        self.distribution.whole(other)
        self._same = other.gather(1, reference.top).double()
        self._rest = torch.empty(len(other), dtype=torch.float64)
        self._likely = self._same.amax(1).cpu().numpy()

    def agreed(self, reference: Distribution) -> Tensor:
        """Whether the most likely outputs are the same in the same order, up to the first, the second, … of them:
        [count, ≤ TOP_K] of 1 and 0."""
        top = reference.top.cpu()
        if self._same is None:
            return (self.distribution.top.cpu() == top).double().cumprod(1)
        found, unsure = agreement(top, self._same.cpu(), self._rest)
        agreed = found.double()
        if len(unsure):
            agreed[unsure] = (self.distribution.most_likely(unsure)[1] == top[unsure]).double().cumprod(1)
        return agreed

    def add(self, rows: slice, tile: Tile, reference: Distribution, shrunk: Vector | None, other: Tensor) -> Tensor:
        """A part of both models' logits; |d| of those positions that are finite."""
        exact = tile.other.tensor.copy_(other)
        if self._same is not None:  # the largest of what the reference does not find likely
            top = reference.top[rows]
            rest = exact.scatter_(1, top, -torch.inf).amax(1).cpu()
            exact.scatter_(1, top, self._same[rows])
            self._rest[rows] = rest
            self.distribution.reach(rows, np.maximum(rest.numpy(), self._likely[rows]))
        own_shrunk = self.distribution.weigh(rows, tile.other, tile.other_weights)
        forward, reverse, absolute, most, square = self._sums[:, rows]
        if shrunk is not None:
            forward *= shrunk
        if own_shrunk is not None:
            reverse *= own_shrunk
        torch.sub(tile.reference.tensor, exact, out=exact)
        forward += dots(tile.weights, tile.other)
        reverse += dots(tile.other_weights, tile.other)
        square += dots(tile.other, tile.other)
        exact.abs_()
        absolute += sums(exact)
        np.maximum(most, exact.amax(1).cpu().numpy(), out=most)
        finite = reference.finite_at(rows) & self.distribution.finite_at(rows)
        return exact if finite.all() else exact[torch.from_numpy(finite).to(exact.device)]


class Logits:
    """Logits of the reference and of the candidates at some positions."""

    def __init__(self, names: Iterable[str], count: int, targets: Tensor | None, device: torch.device):
        """``targets`` [count] holds the correct output, negative for none."""
        self.reference = Distribution(count, device)
        self.differences = {name: Difference(count, device) for name in names}
        self.outputs = 0
        self.targets = targets
        #: |d| of finite logits, rounded to bfloat16: how many there are of each, by its bits without the sign.
        self.counts = Counts(self.differences, device)

    def add(self, start: int, reference: Tensor, others: Mapping[str, Tensor], whole: bool = False) -> None:
        """The part [count, part] of the vocabulary that begins with output ``start``, in order; ``whole`` where it is
        all of it."""
        self.outputs = start + reference.shape[1]
        self._note_targets(self.reference, start, reference)
        self.reference.likely(start, reference)
        for name, other in others.items():
            found = self.differences[name]
            self._note_targets(found.distribution, start, other)
            if whole:
                found.begin(self.reference, other)
            else:
                found.distribution.likely(start, other)

        def work(rows: slice, tile: Tile, counts: Counts) -> None:
            tile.reference.tensor.copy_(reference[rows])
            shrunk = self.reference.weigh(rows, tile.reference, tile.weights)
            for name, other in others.items():
                found = self.differences[name]
                counts.note(name, found.add(rows, tile, self.reference, shrunk, other[rows]))

        in_tiles(len(reference), reference.shape[1], reference.device, work, self.counts)

    def _note_targets(self, found: Distribution, start: int, logits: Tensor) -> None:
        if self.targets is None:
            return
        here = (self.targets >= start) & (self.targets < start + logits.shape[1])
        places = here.nonzero()[:, 0]
        found.target[places.cpu()] = logits[places, self.targets[places] - start].double().cpu()
