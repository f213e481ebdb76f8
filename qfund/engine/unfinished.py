"""Results of what has been done so far, kept beside the finished ones until those are there: nothing that lists or
looks up a result meets them."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qfund.core.errors import StoreError
from qfund.core.feature import Kind
from qfund.core.progress import Progress, Sharing, Streaming

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qfund.engine.shared.rows import Keeper


def keep(store: "Keeper", kind: Kind, key: str, result: Any) -> None:
    """In place of an earlier one. A store that refuses is told of where the whole result is kept."""
    with suppress(StoreError):
        store.put(_apart(kind), _key(key), result)


def find(store: "Keeper", kind: Kind, key: str) -> Any | None:
    """What there is of the result that would be under ``key``.

    Raises:
        StoreError: the database refuses.
    """
    return store.get(_apart(kind), _key(key))


def forget(store: "Keeper", key: str) -> None:
    """The whole is there.

    Raises:
        StoreError: the database refuses.
    """
    store.delete(_key(key))


def _apart(kind: Kind) -> Kind:
    return replace(kind, name=f"{kind.name}, unfinished", listed=None)


def _key(key: str) -> str:
    return f"{key}, unfinished"


@dataclass(frozen=True, slots=True)
class Keeping:
    """A progress that keeps what it is given, and gives it on. ``fresh``: nothing that was kept before is used."""

    store: "Keeper"
    kind: Kind
    key: str
    told: Progress
    fresh: bool = False

    def __call__(self, phase: str, share: float) -> None:
        self.told(phase, share)

    def show(self, texts: "Mapping[str, str]") -> None:
        if isinstance(self.told, Streaming):
            self.told.show(texts)

    def so_far(self, result: Any) -> None:
        keep(self.store, self.kind, self.key, result)
        if isinstance(self.told, Sharing):
            self.told.so_far(result)
