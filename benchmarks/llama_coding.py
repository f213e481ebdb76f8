"""llama.cpp's ``--kl-divergence`` written anew from its documentation and printed tables, its 16-bit coding included.

llama.cpp stores log-probabilities of the reference as lp = scale · code + least, in codes of 16 bits that cover
max(smallest logit, largest − 16) … largest, and drops from the sum over the vocabulary what has ln p ≤ −16. Means are
over positions; the uncertainty of a mean is √((mean x² − mean² x)/(n − 1)).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SPAN = 16.0
CODES = 65535


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def coded(logits: Array) -> Array:
    """Log-probabilities [positions, vocabulary] as they are read back from 16 bits."""
    largest = logits.max(-1, keepdims=True)
    smallest = np.maximum(logits.min(-1, keepdims=True), largest - SPAN)
    total = np.log(np.exp(logits - largest).sum(-1, keepdims=True))
    scale = (largest - smallest) / CODES
    codes = np.where(logits > smallest, np.rint((logits - smallest) / np.where(scale > 0, scale, 1)), 0)
    # Both are kept as 32-bit floats.
    found: Array = scale.astype(np.float32) * codes + (smallest - largest - total).astype(np.float32)
    return found


@dataclass(slots=True)
class Table:
    """One candidate beside a reference, position by position; ``drop`` leaves out terms as llama.cpp does."""

    drop: bool
    kl: list[Array] = field(default_factory=list)
    nll: list[Array] = field(default_factory=list)
    nll_base: list[Array] = field(default_factory=list)
    same: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, log_p: Array, log_q: Array, correct: NDArray[np.int64]) -> None:
        terms = np.exp(log_p) * (log_p - log_q)
        self.kl.append((terms * (log_p > -SPAN) if self.drop else terms).sum(-1))
        self.same.append(log_p.argmax(-1) == log_q.argmax(-1))
        at = correct[:, None]
        self.nll.append(-np.take_along_axis(log_q, at, -1)[:, 0])
        self.nll_base.append(-np.take_along_axis(log_p, at, -1)[:, 0])

    def rows(self) -> dict[str, float]:
        """By the names of the columns in shared/notes/embedded-models.md; ``Δp`` in per cent."""
        kl, nll, base = (np.concatenate(parts) for parts in (self.kl, self.nll, self.nll_base))
        delta = np.exp(-nll) - np.exp(-base)
        gap, n = nll - base, len(nll)
        return {
            "n": n,
            "PPL": math.exp(nll.mean()),
            "PPL ±": math.exp(nll.mean()) * _uncertainty(nll),
            "ln ratio": gap.mean(),
            "ln ratio ±": _uncertainty(gap),
            "KLD": kl.mean(),
            "KLD max": kl.max(),
            "KLD 99.9 %": np.quantile(kl, 0.999),
            "KLD 99 %": np.quantile(kl, 0.99),
            "KLD median": np.quantile(kl, 0.5),
            "KLD min": kl.min(),
            "RMS Δp %": 100 * math.sqrt((delta**2).mean()),
            "same top %": 100 * np.concatenate(self.same).mean(),
        }


def _uncertainty(values: Array) -> float:
    return math.sqrt(max(0.0, float((values**2).mean() - values.mean() ** 2)) / (len(values) - 1))
