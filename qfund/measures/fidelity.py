"""How far a candidate's outputs are from the reference's, position by position, in double precision.

The models' outputs are upcast exactly to float64 before anything is computed; nothing is rounded on the way. Positions
where either model gives a non-finite value are left out of every statistic and counted.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from qfund.metrics import Positions, Vector
from qfund.report import Histogram

_TILE = 128 * 1024  # elements of logits in double precision at once: a megabyte, which a cache holds
_LOW, _WIDTH, _BINS = -12.0, 0.1, 160  # the histogram: 1e-12 … 1e4 in tenths of a decade
TOP = 5


@dataclass(slots=True)
class Kept:
    """What stays of one position for the token map: its most likely outputs, at most TOP, and their probabilities."""

    top: list[int]
    probabilities: list[float]


@dataclass(slots=True)
class Candidate:
    """Accumulates one candidate's comparison. Call ``positions()`` at the end."""

    # Flat arrays: thousands of small tensors that stay between large ones that are freed would scatter the heap, and
    # the process would grow by a gigabyte.
    vectors: "dict[str, array[float]]" = field(default_factory=dict)
    counts: Tensor = field(default_factory=lambda: torch.zeros(_BINS, dtype=torch.int64))
    zeros: int = 0
    nonfinite: int = 0
    finite: list[bool] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def add(self, name: str, values: Tensor) -> None:
        self.vectors.setdefault(name, array("d")).frombytes(values.double().cpu().numpy().tobytes())

    def vector(self, name: str) -> Vector | None:
        values = self.vectors.get(name)
        return None if values is None else np.array(values)

    def count(self, absolute: Tensor) -> None:
        """Add |differences| to the histogram."""
        zeros = absolute.numel() - int(absolute.count_nonzero())
        # In place: this runs over every logit. A zero becomes −∞ and falls into the first bin, where it is taken out.
        inside = absolute.float().log10_().sub_(_LOW).div_(_WIDTH).clamp_(0, _BINS - 1).flatten().to(torch.int32)
        counts = torch.bincount(inside, minlength=_BINS).cpu()
        counts[0] -= zeros
        self.counts += counts
        self.zeros += zeros

    def positions(self) -> Positions:
        """What was accumulated; a vector that no output gave is None."""
        return Positions(**{row.name: self.vector(row.name) for row in fields(Positions)})

    def histogram(self) -> Histogram:
        return Histogram(_LOW, _WIDTH, tuple(int(count) for count in self.counts), self.zeros)


@dataclass(slots=True)
class Comparison:
    """All candidates of one run, and the reference's own NLL where tokens are predicted."""

    candidates: dict[str, Candidate]
    reference: Candidate = field(default_factory=Candidate)

    def add_logits(self, reference: Tensor, others: Sequence[Tensor], targets: Tensor | None, keep: int) -> None:
        """Compare logits [positions, outputs] of the reference and of each candidate, in the candidates' order.

        ``targets`` [positions] holds the correct output, −100 for none. The first ``keep`` positions also leave their
        most likely outputs for the token map.
        """
        outputs = reference.shape[-1]
        step = max(1, _TILE // outputs)
        for start in range(0, reference.shape[0], step):
            part = slice(start, start + step)
            wanted = None if targets is None else targets[part]
            kept = max(0, min(step, keep - start))
            self._add_tile(reference[part].double(), [other[part] for other in others], wanted, kept)

    def _add_tile(self, reference: Tensor, others: Sequence[Tensor], targets: Tensor | None, keep: int) -> None:
        log_p = reference.log_softmax(-1)
        p = log_p.exp()
        top = reference.argmax(-1)
        finite = reference.isfinite().all(-1)
        self.reference.nonfinite += int((~finite).sum())
        _keep(self.reference, reference, log_p, finite, keep)
        if targets is not None:
            correct = targets.clamp(min=0)[:, None]
            nll_p = -log_p.gather(-1, correct)[:, 0]
            self.reference.add("nll_candidate", nll_p[finite & (targets >= 0)])
        for candidate, other in zip(self.candidates.values(), others, strict=True):
            exact = other.double()
            log_q = exact.log_softmax(-1)
            good = finite & exact.isfinite().all(-1)
            candidate.nonfinite += int((~good).sum())
            candidate.finite += good.tolist()
            absolute = (exact - reference).abs_()
            if not good.all():
                absolute = absolute[good]
            candidate.add("mean_abs", absolute.mean(-1))
            candidate.add("max_abs", absolute.amax(-1) if len(absolute) else absolute.sum(-1))
            candidate.count(absolute)
            if reference.shape[-1] > 1:  # a single output is a score, and no distribution over anything
                # A probability of exactly 0 contributes 0, also where ln p is −∞.
                divergence = torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)
                candidate.add("kl", divergence[good].clamp(min=0.0))
                candidate.add("same_top1", (exact.argmax(-1) == top)[good].double())
            if targets is not None:
                scored = good & (targets >= 0)
                nll_q = -log_q.gather(-1, correct)[:, 0]
                candidate.add("nll_reference", nll_p[scored])
                candidate.add("nll_candidate", nll_q[scored])
            _keep(candidate, exact, log_q, good, keep)

    def add_hidden(self, reference: Tensor, others: Sequence[Tensor], kind: str = "hidden") -> None:
        """Compare last hidden states [positions, features], or pooled outputs [examples, features] as ``pooled``."""
        exact_reference = reference.double()
        finite = exact_reference.isfinite().all(-1)
        for candidate, other in zip(self.candidates.values(), others, strict=True):
            exact = other.double()
            good = finite & exact.isfinite().all(-1)
            a, b = exact_reference[good], exact[good]
            absolute = (b - a).abs()
            candidate.add(f"{kind}_max_abs", absolute.amax(-1) if len(a) else absolute.sum(-1))
            candidate.add(f"{kind}_cosine", torch.nn.functional.cosine_similarity(a, b, dim=-1))
            if kind == "hidden":
                candidate.nonfinite += int((~good).sum())
                candidate.add("hidden_mean_abs", absolute.mean(-1))
                candidate.count(absolute)


def _keep(candidate: Candidate, logits: Tensor, log_p: Tensor, good: Tensor, count: int) -> None:
    """Keep the most likely outputs of the first ``count`` positions; none where the position is not finite."""
    for row, log_row, fine in zip(logits[:count], log_p[:count], good[:count].tolist(), strict=True):
        top = _top(row) if fine else torch.empty(0, dtype=torch.int64)
        candidate.kept.append(Kept(top.tolist(), log_row[top].exp().tolist()))


def _top(logits: Tensor) -> Tensor:
    """Indices of the TOP largest of a vector, equal ones in the order of their indices: as argmax has it."""
    least = logits.topk(min(TOP, len(logits))).values[-1]
    indices = (logits >= least).nonzero()[:, 0]
    order = logits[indices].sort(descending=True, stable=True).indices
    return indices[order[:TOP]].cpu()
