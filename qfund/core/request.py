"""What every request has."""

from typing import Protocol


class Request(Protocol):
    """What is asked of a model: a ``Spec``, or another frozen dataclass that names the model as it does."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
