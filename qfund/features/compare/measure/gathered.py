"""What models give for the batches of an input, taken into a comparison as it comes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qfund.core.errors import UnsupportedModel
from qfund.core.intervals import Vector
from qfund.features.compare.measure import tokens
from qfund.features.compare.measure.drift import Drift
from qfund.features.compare.request.spec import DRIFT, MAP
from qfund.models.comparison.logits import Logits
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.inputs import Batch
from qfund.models.tasks import Task
from qfund.stream.walker import Way

#: The way of the reference, whatever its precision is.
REFERENCE = "reference"


class Gathered:
    """A listener of ``qfund.stream``, for models that run whole too.

    Attributes:
        comparison: of all ways but the reference's, by name.
        drift: of the hidden states along the blocks.
        vocabulary: how many tokens are chosen among; 0 before there were any, and of tasks that choose none.
        batches: that are run now; numbers of batches count in them.
        worst: which positions go towards the token map in full.
    """

    def __init__(
        self,
        task: Task,
        batches: Sequence[Batch],
        names: Sequence[str],
        more: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> None:
        """``names`` are the candidates'; ``more`` of ways that are compared too, but in no map of tokens; ``without``
        as in ``request.spec.Spec``."""
        self.comparison = Comparison({name: Candidate() for name in (*names, *more)})
        self.drift = Drift()
        self.vocabulary = 0
        self.batches = batches
        self.worst = tokens.Worst(len(names))
        self._task, self._names, self._without = task, names, without
        self._more = frozenset(more)
        self._parts: dict[int, Logits] = {}
        self._taken: Batch | None = None

    def of(self, name: str) -> Candidate:
        """What was found of a candidate, or of the ``REFERENCE`` itself."""
        return self.comparison.reference if name == REFERENCE else self.comparison.candidates[name]

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None:
        if DRIFT in self._without or hidden.dim() != 3 or way.name in self._more or way.in_pieces:
            return
        if way.name == REFERENCE:
            self.drift.reference(name, batch, hidden)
        else:
            self.drift.candidate(way.name, name, batch, hidden)

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        self.drift.done(batch)
        again, self._taken = self.batches[batch] is self._taken, self.batches[batch]
        found = {name: self._tensor(output) for name, output in outputs.items()}
        reference = found.pop(REFERENCE)
        if self._task.gives == "hidden states":
            self._hidden(batch, reference, found, outputs)
        elif self._task.gives == "labels":
            chunks = self.batches[batch].chunks.to(reference.device)
            self.comparison.add_logits(reference, found, chunks=chunks, again=again)
        else:
            self.vocabulary = reference.shape[-1]
            chosen, targets = self._positions(batch, reference)
            rows = {name: _rows(part, chosen) for name, part in found.items()}
            own, places = _rows(reference, chosen), self._of(batch, chosen)
            self.comparison.add_logits(own, rows, targets, self._choose, places, again)

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None:
        self.vocabulary = vocabulary
        found = {name: torch.cat(part) if isinstance(part, list) else part for name, part in logits.items()}
        reference = found.pop(REFERENCE)
        chosen, targets = self._positions(batch, reference)
        if not start:
            self._parts[batch] = self.comparison.logits(found, int(chosen.sum()), targets, reference.device)
        rows = {name: _rows(part, chosen) for name, part in found.items()}
        self._parts[batch].add(start, _rows(reference, chosen), rows)
        if start + reference.shape[-1] == vocabulary:
            self.comparison.take(self._parts.pop(batch), self._choose, self._of(batch, chosen))

    def _hidden(self, batch: int, reference: Tensor, found: Mapping[str, Tensor], outputs: Mapping[str, Any]) -> None:
        chunks = self.batches[batch].chunks.to(reference.device)
        if reference.dim() == 3:
            chunks = chunks[:, None].expand(reference.shape[:2]).flatten()
        flat = {name: _flat(part) for name, part in found.items()}
        self.comparison.add_hidden(_flat(reference), flat, chunks=chunks)
        pooled = {name: _pooled(output) for name, output in outputs.items()}
        if all(part is not None for part in pooled.values()):
            parts = {name: part.flatten(1) for name, part in pooled.items() if part is not None}
            self.comparison.add_hidden(parts.pop(REFERENCE), parts, "pooled")

    def _positions(self, batch: int, reference: Tensor) -> tuple[Tensor, Tensor | None]:
        """Which positions are compared, and the tokens that are correct there."""
        given = self.batches[batch]
        places, device = reference.shape[:2], reference.device
        chosen = torch.ones(places, dtype=torch.bool) if given.scored is None else given.scored
        targets = None if given.targets is None else given.targets[chosen].to(device)
        return chosen.to(device), targets

    def _choose(self, divergences: Mapping[str, Vector]) -> NDArray[np.int64]:
        """Which of the next positions go towards the token map in full; who has left says nothing of them."""
        if MAP in self._without or not divergences.keys() & set(self._names):
            return np.arange(0)
        nothing = np.full(len(next(iter(divergences.values()))), np.nan)
        return self.worst.choose([divergences.get(name, nothing) for name in self._names])

    def _of(self, batch: int, chosen: Tensor) -> Tensor:
        """The chunk of each compared position."""
        return self.batches[batch].chunks[:, None].expand(chosen.shape)[chosen.cpu()].to(chosen.device)

    def _tensor(self, output: Any) -> Tensor:
        """The tensor of a model's output that is compared."""
        if isinstance(output, list):
            return torch.cat([self._tensor(part) for part in output])
        return output_of(self._task, output)


def output_of(task: Task, output: Any) -> Tensor:
    """The tensor of a model's output that is compared.

    Raises:
        UnsupportedModel: it has none.
    """
    name = "last_hidden_state" if task.gives == "hidden states" else "logits"
    value = getattr(output, name, None)
    if not isinstance(value, Tensor):
        what = f"{type(output).__name__} without {name.replace('_', ' ')}"
        raise UnsupportedModel(f"The model gives {what}, so there is nothing to compare.", "Choose another model.")
    return value


def _rows(logits: Tensor, chosen: Tensor) -> Tensor:
    """Those of the chosen positions [positions, outputs], of logits [examples, positions, outputs]; no copy of all."""
    return logits.flatten(0, 1) if bool(chosen.all()) else logits[chosen]


def _flat(hidden: Tensor) -> Tensor:
    """[examples, …, features] → [positions, features]; of feature maps [examples, features]."""
    return hidden.flatten(0, -2) if hidden.dim() < 4 else hidden.flatten(1)


def _pooled(output: Any) -> Tensor | None:
    if isinstance(output, list):
        parts = [_pooled(part) for part in output]
        return None if any(part is None for part in parts) else torch.cat([part for part in parts if part is not None])
    found = getattr(output, "pooler_output", None)
    return found if isinstance(found, Tensor) else None
