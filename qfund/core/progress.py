"""What a measure tells while it works: always how far it is, and to those who listen, what it has written so far."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

#: ``(phase, share)``: what is being done, and the share of the whole job that is done, 0 to 1.
Progress = Callable[[str, float], None]


@runtime_checkable
class Streaming(Protocol):
    """A ``Progress`` that also takes texts while they are made."""

    def __call__(self, phase: str, share: float) -> None: ...

    def show(self, texts: Mapping[str, str]) -> None:
        """All that has been written of what is being written: a name (of a precision) → text, in place of the last."""


@runtime_checkable
class Sharing(Protocol):
    """A ``Progress`` that also takes results that are not finished."""

    def __call__(self, phase: str, share: float) -> None: ...

    def so_far(self, result: Any) -> None:
        """The result of what has been done, of the type that the whole will have, in place of the last."""


@runtime_checkable
class Patient(Sharing, Protocol):
    """One that needs no result of each step: to make one takes time too."""

    def due(self) -> bool:
        """Whether it would have one now."""


def wants(progress: Progress) -> bool:
    """Whether a result that is not finished is worth making now."""
    return isinstance(progress, Sharing) and (not isinstance(progress, Patient) or progress.due())


@runtime_checkable
class Resumable(Sharing, Protocol):
    """One whose results are kept, so that what was done may be kept too, for whoever goes on. ``fresh``: nothing that
    was kept before is used."""

    @property
    def fresh(self) -> bool: ...
