"""What headers tell of a model elsewhere, asked for by itself: a worker reads them, since a stranger wrote them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from qfund.core.request import Request, model_name
from qfund.features.memory.request import plan


@dataclass(frozen=True, slots=True)
class HeadersRequest:
    """Answered with a ``HeaderPlan`` in every float cast."""

    model: str
    revision: str | None = None


def of(request: Request) -> HeadersRequest:
    """Of the model that another request is about."""
    return HeadersRequest(request.model, request.revision)


def checked(request: HeadersRequest) -> HeadersRequest:
    """Raises ``InvalidSpec`` where no model is named."""
    return replace(request, model=model_name(request.model), revision=request.revision or None)


def read(request: HeadersRequest, progress: Callable[[str, float], None]) -> plan.HeaderPlan:
    """Raises ``QfundError`` as ``plan.headers``."""
    return plan.headers(plan.PlanRequest(request.model, revision=request.revision), progress)
