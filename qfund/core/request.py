"""What every request has."""

import dataclasses
from typing import Any, Protocol, cast

from qfund.core.errors import InvalidSpec

#: Metadata of a field that came after results were stored: at its default it is no part of a request's key.
LATER = {"later": True}


class Request(Protocol):
    """What is asked of a model: a ``Spec``, or another frozen dataclass that names the model as it does."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...


def model_name(text: str) -> str:
    """The name without blanks around it.

    Raises:
        InvalidSpec: it is none.
    """
    name = text.strip()
    if not name or len(text) > 1024 or "\0" in name:
        raise InvalidSpec("No model is named.", "Name a catalog model, a folder or a Hub id (owner/name).")
    return name


#: Fields in which people give what is their own: texts, and pictures.
_OWN = frozenset({"text", "texts", "prompts", "query", "pairs", "stop", "pictures"})


def holds_own(request: Request) -> bool:
    """Whether it holds what somebody has written or uploaded, and not only names of what everybody has."""
    fields = dataclasses.fields(cast("Any", request))
    return any(field.name in _OWN and getattr(request, field.name) != field.default for field in fields)
