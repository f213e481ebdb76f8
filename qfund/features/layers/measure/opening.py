"""A model, its modules and its input, opened for every measure of this feature."""

from dataclasses import dataclass

from qfund.core.progress import Progress
from qfund.features.layers.measure import places
from qfund.features.layers.measure.places import Places
from qfund.features.layers.request.asked import Asked
from qfund.models import inputs
from qfund.models import opened as models
from qfund.models.inputs import Prepared
from qfund.models.opened import Opened
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS


@dataclass(frozen=True, slots=True)
class Opening:
    opened: Opened
    prepared: Prepared
    places: Places
    reference: Precision
    rows: tuple[Precision, ...]


def opening(request: Asked, progress: Progress) -> Opening:
    """
    Raises:
        QfundError: anything that is wrong with the request, the model or the text.
    """
    names = (request.reference, *request.precisions)
    opened = models.opened(request, names, request.also, progress)
    prepared = inputs.prepare(request, opened.source, opened.found, opened.task)
    opened.size(names)
    rows = tuple(PRECISIONS[name] for name in request.precisions)
    found = places.find(opened.as_read, rows, request.also)
    return Opening(opened, prepared, found, PRECISIONS[request.reference], rows)


def notes(opening: Opening) -> tuple[str, ...]:
    """What is to be said of the input and the files."""
    return (*opening.prepared.facts.notes, *opening.opened.notes)
