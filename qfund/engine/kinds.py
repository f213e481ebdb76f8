"""The kinds of jobs, from the rows of all features."""

from qfund.core.feature import Kind, lazily
from qfund.core.request import Request

#: ``features`` is above this room, so it is named, not imported.
KINDS: dict[str, Kind] = {kind.name: kind for feature in lazily("qfund.features:FEATURES") for kind in feature.kinds}


def kind_of(request: Request) -> Kind:
    """The row for a request of this type.

    Raises:
        TypeError: there is none.
    """
    name = f"{type(request).__module__}:{type(request).__qualname__}"
    for kind in KINDS.values():
        if kind.request == name:
            return kind
    raise TypeError(f"No kind of job has requests of type {name}: add it to the row of a feature.")
