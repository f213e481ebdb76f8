"""How far a candidate's outputs are from the reference's, position by position, in double precision.

The models' outputs are upcast exactly to float64 before anything is computed; nothing is rounded on the way. Positions
where either model gives a non-finite value are left out of every statistic and counted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qfund.core.intervals import Vector
from qfund.core.metrics.histogram import Histogram
from qfund.core.metrics.positions import TOP_K, Positions
from qfund.models.comparison.column import Column
from qfund.models.comparison.logits import Distribution, Logits
from qfund.models.comparison.tiles import TILE, count_by_code

_LOW, _WIDTH, _BINS = -12.0, 0.1, 160  # the histogram: 1e-12 … 1e4 in tenths of a decade
TOP = 5  # of the token map
#: KL divergences of some positions by candidate, [positions] → the numbers of those to be kept in full.
Choose = Callable[[Mapping[str, Vector]], NDArray[np.int64]]


@dataclass(slots=True)
class Kept:
    """What stays of one position for the token map: its most likely outputs, at most TOP, and their probabilities."""

    top: list[int]
    probabilities: list[float]


@dataclass(slots=True)
class Candidate:
    """Accumulates one candidate's comparison. Call ``positions()`` at the end."""

    vectors: dict[str, Column] = field(default_factory=dict)
    counts: Tensor = field(default_factory=lambda: torch.zeros(_BINS, dtype=torch.int64))
    zeros: int = 0
    nonfinite: int = 0
    finite: list[bool] = field(default_factory=list)
    kept: dict[int, Kept] = field(default_factory=dict)

    def add(self, name: str, values: Tensor | NDArray[Any]) -> None:
        self.vectors.setdefault(name, Column()).add(values.cpu() if isinstance(values, Tensor) else values)

    def vector(self, name: str) -> Vector | None:
        column = self.vectors.get(name)
        return None if column is None else column.values

    def count(self, counts: Tensor) -> None:
        """Add to the histogram; ``counts`` are of |differences| in bfloat16, by their bits."""
        self.zeros += int(counts[0])
        self.counts.index_add_(0, _bins(len(counts))[1:], counts[1:])

    def positions(self) -> Positions:
        """What was accumulated; a vector that no output gave is None."""
        return Positions(**{row.name: self.vector(row.name) for row in fields(Positions)})

    def histogram(self) -> Histogram:
        return Histogram(_LOW, _WIDTH, tuple(int(count) for count in self.counts), self.zeros)


@dataclass(slots=True)
class Comparison:
    """All candidates of one run, and the reference's own NLL where tokens are predicted; ``seen`` counts positions."""

    candidates: dict[str, Candidate]
    reference: Candidate = field(default_factory=Candidate)
    seen: int = 0

    def add_logits(
        self,
        reference: Tensor,
        others: Mapping[str, Tensor],
        targets: Tensor | None = None,
        choose: Choose | None = None,
        chunks: Tensor | None = None,
        again: bool = False,
    ) -> None:
        """Compare logits [positions, outputs] of the reference and of candidates, by name.

        ``targets`` [positions] holds the correct output, −100 for none; ``chunks`` [positions] the chunk of the input.
        Those positions that ``choose`` picks, given each candidate's KL divergences (NaN where not finite), also leave
        their most likely outputs for the token map. ``again``: these of the reference were taken before, beside others.
        """
        logits = self.logits(others, len(reference), targets, reference.device)
        width = reference.shape[1]
        for start in range(0, width, TILE):
            part = slice(start, start + TILE)
            rest = {name: other[:, part] for name, other in others.items()}
            logits.add(start, reference[:, part], rest, whole=width <= TILE)
        self.take(logits, choose, chunks, again)

    def logits(self, names: Iterable[str], count: int, targets: Tensor | None, device: torch.device) -> Logits:
        """To be given the logits of ``count`` positions, a part of the vocabulary after the other."""
        return Logits(names, count, targets, device)

    def take(
        self, found: Logits, choose: Choose | None = None, chunks: Tensor | None = None, again: bool = False
    ) -> None:
        """Add what was found at some positions; see ``add_logits``."""
        with np.errstate(all="ignore"):  # of positions that are not finite
            self._take(found, choose, None if chunks is None else chunks.cpu().numpy(), again)

    def _take(self, found: Logits, choose: Choose | None, chunks: Vector | None, again: bool) -> None:
        reference = found.reference
        targets = None if found.targets is None else found.targets.cpu().numpy()
        log_total, finite = reference.log_total(), reference.finite
        correct = np.zeros_like(finite) if targets is None else targets >= 0
        if not again:
            self.reference.nonfinite += int((~finite).sum())
        divergences: dict[str, Vector] = {}
        nll = log_total - reference.target
        if targets is not None and not again:
            self.reference.add("nll_candidate", nll[finite & correct])
            if chunks is not None:
                self.reference.add("chunk_scored", chunks[finite & correct])
        confidence = reference.confidence()
        for name, difference in found.differences.items():
            candidate, other = self.candidates[name], difference.distribution
            good = finite & other.finite
            # A slice is no copy.
            kept: slice | NDArray[np.bool_] = slice(None) if good.all() else good
            candidate.nonfinite += int((~good).sum())
            candidate.finite += good.tolist()
            candidate.count(difference.counts.counts)
            candidate.add("mean_abs", difference.absolute[kept] / found.outputs)
            candidate.add("max_abs", difference.largest[kept])
            candidate.add("logit_signal", reference.square[kept])
            candidate.add("logit_noise", difference.square[kept])
            candidate.add("logit_cosine", _cosine(reference.square, other.square, difference.square)[kept])
            if chunks is not None:
                candidate.add("chunk", chunks[kept])
            if found.outputs > 1:  # a single output is a score, and no distribution over anything
                # Rounding may leave the last bits of a divergence below zero.
                shift = (other.offset - reference.offset) + _log_ratio(other.total, reference.total)
                divergence = np.maximum(difference.forward / reference.total + shift, 0.0)
                divergences[name] = np.where(good, divergence, np.nan)
                candidate.add("kl", divergence[kept])
                candidate.add("kl_reverse", np.maximum(-difference.reverse / other.total - shift, 0.0)[kept])
                candidate.add("confidence", confidence[kept])
                agreed = difference.agreed(reference)
                candidate.add("same_top1", agreed[kept, 0])
                if found.outputs >= TOP_K:
                    candidate.add("top_agreed", agreed.sum(1)[kept])
            if targets is not None:
                scored = good & correct
                nll_other = other.log_total() - other.target
                candidate.add("nll_reference", nll[scored])
                candidate.add("nll_candidate", nll_other[scored])
                candidate.add("delta_p", np.exp(-nll_other[scored]) - np.exp(-nll[scored]))
                candidate.add("confidence_scored", confidence[scored])
                if chunks is not None:
                    candidate.add("chunk_scored", chunks[scored])
        chosen = choose(divergences) if choose else np.arange(0)
        _keep(self.reference, reference, finite, chosen, self.seen)
        for name, difference in found.differences.items():
            good = finite & difference.distribution.finite
            _keep(self.candidates[name], difference.distribution, good, chosen, self.seen)
        self.seen += 0 if again else len(finite)

    def add_hidden(
        self, reference: Tensor, others: Mapping[str, Tensor], kind: str = "hidden", chunks: Tensor | None = None
    ) -> None:
        """Compare last hidden states [positions, features], or pooled outputs [examples, features] as ``pooled``."""
        exact_reference = reference.double()
        finite = exact_reference.isfinite().all(-1)
        for name, other in others.items():
            candidate, exact = self.candidates[name], other.double()
            good = finite & exact.isfinite().all(-1)
            a, b = exact_reference[good], exact[good]
            absolute = (b - a).abs()
            candidate.add(f"{kind}_max_abs", absolute.amax(-1) if len(a) else absolute.sum(-1))
            candidate.add(f"{kind}_cosine", torch.nn.functional.cosine_similarity(a, b, dim=-1))
            if kind == "hidden":
                candidate.nonfinite += int((~good).sum())
                candidate.add("hidden_mean_abs", absolute.mean(-1))
                candidate.add("hidden_signal", a.square().sum(-1))
                candidate.add("hidden_noise", absolute.square().sum(-1))
                candidate.count(count_by_code(absolute))
                if chunks is not None:
                    candidate.add("chunk", chunks[good])


@cache
def _bins(codes: int) -> Tensor:
    """[codes]: which bin of the histogram a number is in, by its bits in bfloat16."""
    values = torch.arange(codes, dtype=torch.int16).view(torch.bfloat16).double()
    return ((values.log10() - _LOW) / _WIDTH).clamp(0, _BINS - 1).long()


def _log_ratio(one: Vector, other: Vector) -> Vector:
    """ln one/other. Of close ones the difference is exact (Sterbenz), where their ratio would be rounded."""
    more = (one - other) / other
    found: Vector = np.where(np.abs(more) < 0.5, np.log1p(more), np.log(one / other))
    return found


def _cosine(reference: Vector, other: Vector, difference: Vector) -> Vector:
    """Of the squared lengths of two vectors and of their difference; 1 for two vectors of zeros."""
    product = np.sqrt(reference * other)
    found: Vector = np.where(product > 0, (reference + other - difference) / (2 * product), difference == 0)
    return found


def _keep(
    candidate: Candidate, found: Distribution, good: NDArray[np.bool_], chosen: NDArray[np.int64], before: int
) -> None:
    """Keep the most likely outputs of the chosen positions, by their numbers; none where they are not finite."""
    if not len(chosen):
        return
    values, top = found.most_likely(chosen)
    probabilities = np.exp(values[:, :TOP] - found.log_total()[chosen, None])
    rows = zip(chosen, top[:, :TOP].tolist(), probabilities.tolist(), good[chosen].tolist(), strict=True)
    candidate.kept |= {before + int(place): Kept(top, p) if fine else Kept([], []) for place, top, p, fine in rows}
