"""What ships with the models, for tests of it."""

from typing import Any

from qfund.core.request import Request
from qfund.engine import key_of, shipped


def ships(request: Request, *, whole: bool = True) -> Any:
    """The result that ships for ``request``, of the weights that are there."""
    found = shipped.find(request, key_of(request), whole=whole)
    assert found is not None, f"{request.model}: out of date, run python -m training.measured {request.model}"
    return found
