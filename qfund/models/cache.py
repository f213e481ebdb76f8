"""Loaded models, kept within a budget of bytes."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidSpec, OutOfBudget
from qfund.core.machine import memory_limit
from qfund.core.units import bytes_text
from qfund.models.loading import LoadedModel, load
from qfund.precisions.precision import Precision

#: Checkpoint id, precision, and what else was quantised.
Key = tuple[str, ...]
Loader = Callable[[Checkpoint, Precision, Sequence[str]], LoadedModel]


class ModelCache:
    """Loaded models, least recently used first out, within a budget in bytes.

    Room is made *before* a load, from the predicted size. A model that is leased is never evicted. Loads happen one at
    a time, so two callers who want one key cause one load.
    """

    def __init__(self, budget: int, loader: Loader = load) -> None:
        self.budget = budget
        self._loader = loader
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, LoadedModel] = OrderedDict()
        self._leases: dict[Key, int] = {}

    @property
    def used(self) -> int:
        """Bytes of the models held now."""
        return sum(held.footprint.bytes for held in self._held.values())

    @property
    def keys(self) -> tuple[Key, ...]:
        """Of the models held now, least recently used first."""
        return tuple(self._held)

    @contextmanager
    def lease(
        self, checkpoint: Checkpoint, row: Precision, predicted: int, also: Sequence[str] = ()
    ) -> Iterator[LoadedModel]:
        """The model, loaded if it is not held, and kept at least until the block ends.

        Raises:
            OutOfBudget: it does not fit beside the models in use.
        """
        key = (checkpoint.id, row.name, str(row.quantizer), *also) if row.quantizer else (checkpoint.id, row.name)
        with self._lock:
            if key not in self._held:
                self._make_room(predicted, f"{checkpoint.folder.name} in {row.label}")
                self._held[key] = self._loader(checkpoint, row, also)
            self._held.move_to_end(key)
            found = self._held[key]
            self._leases[key] = self._leases.get(key, 0) + 1
        try:
            yield found
        finally:
            with self._lock:
                self._leases[key] -= 1

    def _make_room(self, needed: int, what: str) -> None:
        while self.used + needed > self.budget:
            idle = next((key for key in self._held if not self._leases.get(key)), None)
            if idle is None:
                raise OutOfBudget(
                    f"{what} needs {bytes_text(needed)}; {bytes_text(self.budget - self.used)} of the budget of "
                    f"{bytes_text(self.budget)} is free.",
                    "Choose a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
                )
            del self._held[idle]


_cache: ModelCache | None = None


def model_cache() -> ModelCache:
    """The process's one model cache."""
    global _cache
    if _cache is None:
        _cache = ModelCache(default_budget())
    return _cache


def default_budget() -> int:
    """Bytes that cached models may take: ``QFUND_MODEL_BUDGET_GIB``, or 60 % of this process's memory limit."""
    given = os.environ.get("QFUND_MODEL_BUDGET_GIB")
    if given:
        try:
            return int(float(given) * 1024**3)
        except ValueError:
            raise InvalidSpec(f"QFUND_MODEL_BUDGET_GIB is {given!r}.", "Give a number, for example 4.") from None
    return int(memory_limit() * 0.6)
