"""How the error of the hidden states grows along the blocks of a model."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qfund.features.compare.request.report import HiddenError


@dataclass(slots=True)
class Sums:
    signal: float = 0.0
    noise: float = 0.0
    gap: float = 0.0  # Σ (1 − cosine)
    positions: int = 0
    nonfinite: int = 0


@dataclass(slots=True)
class Drift:
    """Takes in the hidden states after each block, the reference's before the candidates'.

    ``sums`` are each candidate's after each block. Differences and lengths are computed in single precision (double
    where the reference is), their sums in double.

    Attributes:
        whole: the reference goes through all blocks with a batch, then each candidate, then the batch is ``done``; else
            all go through a block before the next.
    """

    whole: bool = False
    sums: dict[str, dict[str, Sums]] = field(default_factory=dict)
    _reference: dict[int, list[tuple[str, Tensor, Tensor]]] = field(default_factory=dict)
    _seen: dict[tuple[str, int], int] = field(default_factory=dict)

    def reference(self, block: str, batch: int, hidden: Tensor) -> None:
        """``hidden`` [examples, positions, width]; the next block may write into it, so it is copied."""
        exact = _exact(hidden).clone()
        before = self._reference.get(batch, []) if self.whole else []
        self._reference[batch] = [*before, (block, exact, torch.linalg.vector_norm(exact, dim=-1).double())]

    def done(self, batch: int) -> None:
        self._reference.pop(batch, None)
        for key in [key for key in self._seen if key[1] == batch]:
            del self._seen[key]

    def candidate(self, name: str, block: str, batch: int, hidden: Tensor) -> None:
        held, place = self._reference.get(batch, []), 0
        if self.whole:  # a model may go through a block several times
            place = self._seen.get((name, batch), 0)
            self._seen[name, batch] = place + 1
        if place >= len(held) or held[place][0] != block or held[place][1].shape != hidden.shape:
            return
        _, reference, length = held[place]
        exact = _exact(hidden)
        own = torch.linalg.vector_norm(exact, dim=-1).double()
        noise = torch.linalg.vector_norm(exact - reference, dim=-1).double()
        good = noise.isfinite() & length.isfinite() & own.isfinite()
        found = self.sums.setdefault(name, {}).setdefault(block, Sums())
        found.nonfinite += int((~good).sum())
        own, noise, length = own[good], noise[good], length[good]
        found.positions += len(own)
        found.signal += float(length.square().sum())
        found.noise += float(noise.square().sum())
        # 1 − cos = (|a − b|² − (|a| − |b|)²) / 2|a||b|, which loses no digits where the two are nearly parallel.
        both = (2 * length * own).clamp(min=torch.finfo(torch.float64).tiny)
        found.gap += float(((noise.square() - (length - own).square()).clamp(min=0) / both).sum())

    def of(self, name: str) -> tuple[HiddenError, ...]:
        """Of a candidate, block by block in the order of execution."""
        found = []
        for block, sums in self.sums.get(name, {}).items():
            ratio = sums.noise / sums.signal if sums.signal else 0.0
            found.append(
                HiddenError(
                    block=block,
                    relative_l2=math.sqrt(ratio),
                    cosine=1 - sums.gap / sums.positions if sums.positions else 1.0,
                    sqnr=-10 * math.log10(ratio) if ratio else None,
                    nonfinite=sums.nonfinite,
                )
            )
        return tuple(found)


def _exact(hidden: Tensor) -> Tensor:
    return hidden if hidden.dtype == torch.float64 else hidden.float()
