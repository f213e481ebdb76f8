"""Exact statistics of logits, position by position, gathered a part of the vocabulary at a time, in double precision.

With a the reference's and b the candidate's logits of a position, d = a − b, and Z the sum of the exponentials:
KL(p ‖ q) = Σ p·d + ln Z_b − ln Z_a, KL(q ‖ p) = −Σ q·d + ln Z_a − ln Z_b. So nothing but sums over the vocabulary is
needed, equal logits give exactly 0, and no two large logarithms are subtracted: the two Z are compared themselves.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qfund.core.intervals import Vector
from qfund.core.metrics.positions import TOP_K
from qfund.models.comparison.likely import Places, agreement, most_likely
from qfund.models.comparison.tiles import Counts, Sheet, Tile, in_tiles

#: Logits whose exponentials, and the sums of those, are far from the end of double precision as they are.
_SAFE = 300.0


class Distribution:
    """The logits of one model at ``count`` positions. What is summed up lies on the CPU, wherever logits are.

    A part of the vocabulary is gone through in tiles, by several threads: ``reach`` and ``weigh`` of some positions
    note what it adds, and ``settle`` adds it.

    Attributes:
        largest: [count], the largest logit; ``total`` is Σ exp(logit − offset), ``square`` Σ logit².
        offset: [count]: 0, but for positions whose exponentials would leave double precision: there ``largest``.
        target: [count], the logit of the correct output, NaN where there is none.
        top, top_logits: [count, ≤ TOP_K], the most likely outputs, equal ones in the order of their numbers; on the
            device of the logits.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.largest, self.offset, self.target = np.full((3, count), [[-np.inf], [-np.inf], [np.nan]])
        self.total, self.square = np.zeros((2, count))
        self._part = np.zeros((2, count))  # Σ exp(logit − offset) and Σ logit² of this part
        self.top = torch.empty((count, 0), dtype=torch.int64, device=device)
        self.top_logits = torch.empty((count, 0), dtype=torch.float64, device=device)
        self._logits: Tensor | None = None

    @property
    def finite(self) -> NDArray[np.bool_]:
        """[count]. One logit that is not finite makes the sum of squares so; those of 16 and 32 bits cannot overflow
        in double precision."""
        return np.isfinite(self.square)

    def squares(self, rows: slice) -> Vector:
        """As ``square``, of some positions, with this part."""
        found: Vector = self.square[rows] + self._part[1, rows]
        return found

    def log_total(self) -> Vector:
        """ln Σ exp(logit)."""
        found: Vector = self.offset + np.log(self.total)
        return found

    def confidence(self) -> Vector:
        """The probability of the most likely output."""
        found: Vector = np.exp(self.largest - self.offset) / self.total
        return found

    def whole(self, logits: Tensor) -> None:
        """All of the vocabulary, to be looked up in when somebody asks what was likely."""
        self._logits = logits

    def likely(self, logits: Tensor, start: int) -> None:
        """Take a part of the vocabulary into ``top``."""
        rows: Tensor | slice = slice(None)
        if self.top.shape[1] == TOP_K:  # what came earlier has lower numbers, so that equal ones change nothing
            rows = (logits.amax(1) > self.top_logits[:, -1]).nonzero()[:, 0]
        self._take(rows, *self._searched(rows, logits, start))

    def likely_beside(self, logits: Tensor, start: int, places: Places, there: Tensor, rest: Vector) -> None:
        """The same, knowing the part's logits ``there`` [count, n] at what another model finds likely, and ``rest``
        [count], the largest of all others: only a position where that is among the largest is searched."""
        if there.shape[1] < TOP_K:
            self.likely(logits, start)
            return
        rows = (~places.earlier).any(1).nonzero()[:, 0]
        order = places.by_number[rows]
        found = self._merged(rows, there[rows].gather(1, order), places.top[rows].gather(1, order))
        least = found[0][:, -1] if not start else self.top_logits[:, -1].index_copy(0, rows, found[0][:, -1])
        searched = (torch.from_numpy(rest).to(logits.device) >= least).nonzero()[:, 0]
        more = self._searched(searched, logits, start)  # from what came earlier
        self._take(rows, *found)
        self._take(searched, *more)

    def _searched(self, rows: Tensor | slice, logits: Tensor, start: int) -> tuple[Tensor, Tensor]:
        values, numbers = most_likely(logits[rows])
        return self._merged(rows, values.double(), numbers + start)

    def _merged(self, rows: Tensor | slice, values: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of ``top_logits`` and later ones, equal ones in the order of their numbers; and these."""
        if self.top.shape[1]:
            values = torch.cat([self.top_logits[rows], values], 1)
            numbers = torch.cat([self.top[rows], numbers], 1)
        found = values.sort(dim=1, descending=True, stable=True)
        order = found.indices[:, :TOP_K]
        return found.values[:, :TOP_K], numbers.gather(1, order)

    def _take(self, rows: Tensor | slice, values: Tensor, numbers: Tensor) -> None:
        if self.top.shape[1] < TOP_K:
            self.top_logits, self.top = values, numbers
        else:
            self.top_logits[rows], self.top[rows] = values, numbers

    def most_likely(self, places: NDArray[np.int64]) -> tuple[Vector, NDArray[np.int64]]:
        """``top_logits`` and ``top`` of some positions, on the CPU."""
        rows = torch.from_numpy(places).to(self.top.device)
        if self._logits is None:
            return self.top_logits[rows].cpu().numpy(), self.top[rows].cpu().numpy()
        values, numbers = most_likely(self._logits[rows])
        return values.double().cpu().numpy(), numbers.cpu().numpy()

    def reach(self, rows: slice, peaks: Vector) -> None:
        """The largest logits of this part at some positions."""
        np.maximum(self.largest[rows], peaks, out=self.largest[rows])

    def weigh(self, rows: slice, logits: Sheet, weights: Sheet) -> None:
        """Go through a tile [rows, part], whose largest logits are known: exp(logit − offset) of it goes to
        ``weights``."""
        reached = self.largest[rows]
        # Of infinities and what is no number neither is.
        if (np.abs(reached) <= _SAFE).all():
            torch.exp(logits.tensor, out=weights.tensor)
        else:
            offset = torch.from_numpy(_offset(reached)).to(weights.tensor.device)
            torch.sub(logits.tensor, offset[:, None], out=weights.tensor).exp_()
        weights.sums(self._part[0, rows])
        logits.dots(logits, self._part[1, rows])

    def settle(self) -> Vector:
        """Add what a part gave. Gives by what sums over earlier parts have to be multiplied."""
        now = _offset(self.largest)
        shrunk: Vector = np.where(self.offset == now, 1.0, np.exp(self.offset - now))
        self.offset = now
        self.total = self.total * shrunk + self._part[0]
        self.square += self._part[1]
        return shrunk


def _offset(largest: Vector) -> Vector:
    return np.where(np.abs(largest) <= _SAFE, 0.0, largest)


class Difference:
    """A candidate's logits against the reference's, at ``count`` positions.

    Attributes:
        forward: Σ exp(a − offset of a)·d and ``reverse`` Σ exp(b − offset of b)·d; ``absolute`` Σ |d|, ``largest``
            max |d| and ``square`` Σ d², all [count].
        counts: |d| of finite positions.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.distribution = Distribution(count, device)
        self.counts = Counts()
        self._part = np.zeros((5, count))
        self.forward, self.reverse, self.absolute, self.largest, self.square = np.zeros((5, count))
        self._there, self._likely, self._chosen = torch.empty(0), np.zeros(0), np.zeros(0)
        self._rest = np.full(count, -np.inf)

    def begin(self, places: Places, other: Tensor) -> None:
        """A part [count, part] comes, and where it has what the reference finds likely."""
        self._there = places.of(other)
        self._likely = self._there.amax(1).cpu().numpy()
        self._chosen = places.chosen(self._there)

    def add(self, rows: slice, tile: Tile, reference: Distribution, places: Places, other: Tensor) -> None:
        """Go through a tile of both models' logits."""
        own, sheet = self.distribution, tile.other
        sheet.tensor.copy_(other)
        chosen, there = places.within(rows)
        sheet.put(there, -np.inf)
        sheet.largest(self._rest[rows])
        sheet.put(there, self._chosen[chosen])
        own.reach(rows, np.maximum(self._rest[rows], self._likely[rows]))
        own.weigh(rows, sheet, tile.other_weights)
        forward, reverse, absolute, most, square = self._part[:, rows]
        sheet.subtract_from(tile.reference)
        tile.weights.dots(sheet, forward)
        tile.other_weights.dots(sheet, reverse)
        sheet.dots(sheet, square)
        sheet.magnitudes()
        sheet.sums(absolute)
        sheet.largest(most)
        finite, values = np.isfinite(reference.squares(rows) + own.squares(rows)), sheet.tensor
        if not finite.all():
            values = values[torch.from_numpy(finite).to(values.device)]
        self.counts.note(values, tile.rounded)

    def settle(self, shrunk: Vector) -> None:
        """Add what a part gave, where the reference's weights shrank."""
        forward, reverse, absolute, largest, square = self._part
        self.forward = self.forward * shrunk + forward
        self.reverse = self.reverse * self.distribution.settle() + reverse
        self.absolute += absolute
        self.square += square
        np.maximum(self.largest, largest, out=self.largest)

    def agreed(self, reference: Distribution) -> NDArray[np.bool_]:
        """Whether the most likely outputs are the same in the same order, up to the first, the second, … of them:
        [count, ≤ TOP_K]."""
        top = reference.top.cpu().numpy()
        if self.distribution.top.shape[1]:
            return np.logical_and.accumulate(self.distribution.top.cpu().numpy() == top, axis=1)
        agreed, unsure = agreement(top, self._there.cpu().numpy(), self._rest)
        if len(unsure):
            found = self.distribution.most_likely(unsure)[1] == top[unsure]
            agreed[unsure] = np.logical_and.accumulate(found, axis=1)
        return agreed

    def search(self, start: int, places: Places, other: Tensor) -> None:
        """A part was gone through, and will not be there again."""
        self.distribution.likely_beside(other, start, places, self._there, self._rest)


class Logits:
    """Logits of the reference and of the candidates at some positions."""

    def __init__(self, names: Iterable[str], count: int, targets: Tensor | None, device: torch.device):
        """``targets`` [count] holds the correct output, negative for none."""
        self.reference = Distribution(count, device)
        self.differences = {name: Difference(count, device) for name in names}
        self.outputs = 0
        self.targets = targets

    def add(self, start: int, reference: Tensor, others: Mapping[str, Tensor], whole: bool = False) -> None:
        """The part [count, part] of the vocabulary that begins with output ``start``, in order; ``whole`` where it is
        all of it."""
        count, width = reference.shape
        self.outputs = start + width
        self._note_targets(start, reference, others)
        self.reference.likely(reference, start)
        self.reference.reach(slice(None), self.reference.top_logits[:, 0].cpu().numpy())
        places = Places(self.reference.top, start, width)
        for name, other in others.items():
            self.differences[name].begin(places, other)

        def work(rows: slice, tile: Tile) -> None:
            tile.reference.tensor.copy_(reference[rows])
            self.reference.weigh(rows, tile.reference, tile.weights)
            for name, other in others.items():
                self.differences[name].add(rows, tile, self.reference, places, other[rows])

        in_tiles(count, width, reference.device, work)
        with np.errstate(all="ignore"):  # of positions that are not finite
            shrunk = self.reference.settle()
            for name in others:
                self.differences[name].settle(shrunk)
        for name, other in others.items():
            if whole:
                self.differences[name].distribution.whole(other)
            else:
                self.differences[name].search(start, places, other)

    def _note_targets(self, start: int, reference: Tensor, others: Mapping[str, Tensor]) -> None:
        if self.targets is None:
            return
        places = ((self.targets >= start) & (self.targets < start + reference.shape[1])).nonzero()[:, 0]
        numbers, here = self.targets[places] - start, places.cpu().numpy()
        self.reference.target[here] = reference[places, numbers].double().cpu().numpy()
        for name, other in others.items():
            self.differences[name].distribution.target[here] = other[places, numbers].double().cpu().numpy()
