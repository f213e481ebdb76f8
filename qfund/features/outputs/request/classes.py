"""Classes side by side: what is asked (``ClassesRequest``), what was found (``Classes``). No torch."""

from dataclasses import dataclass

from qfund.core.environment import Environment
from qfund.core.estimate import Estimate, of_items
from qfund.precisions import request as precisions_request

SCHEMA = 1
MAX_TEXTS = 1000
SHOWN = 8  # labels of an item that are kept, and those that any precision chose
DEFAULT_PRECISIONS = ("bf16", "fp16", "int8", "int4", "int2", "nf4")
#: Of the kinds of objects that ``docstring-kinds`` tells apart.
DEFAULT_TEXTS = (
    "This module provides tools for reading and writing configuration files.",
    "A queue that hands out the smallest item first.",
    "Raised when the connection is closed before the reply arrives.",
    "Parse a string of options and return them with what is left over.",
    "Remove and return the last item, or raise IndexError where there is none.",
    "The name of the file.",
)
#: How logits become numbers that people read.
SOFTMAX, SIGMOID, SCORE = "one of them", "any of them", "a score"
READINGS = {
    SOFTMAX: "probabilities of all classes add up to 1",
    SIGMOID: "each class has a probability of its own; those of at least 50 % are chosen",
    SCORE: "the head gives one number, and no probability",
}


@dataclass(frozen=True, slots=True)
class ClassesRequest:
    """What to classify. ``texts`` are for a model that reads text; one that reads pictures gets those that the project
    draws. The other parts are as in a comparison's ``Spec``."""

    model: str
    reference: str = ""
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    texts: tuple[str, ...] = DEFAULT_TEXTS
    also: tuple[str, ...] = ()
    revision: str | None = None

    def __post_init__(self) -> None:
        precisions_request.take_usual_reference(self)


EXAMPLE = ClassesRequest("docstring-kinds")


def checked(request: ClassesRequest) -> ClassesRequest:
    """The same request in its one canonical form. Raises ``UsageError`` for what cannot be asked."""
    request = precisions_request.canonical(request)
    precisions_request.check_texts(request.texts, "text", MAX_TEXTS)
    return request


@dataclass(frozen=True, slots=True)
class Item:
    """One text or picture.

    Attributes:
        name: the text, or what is on the picture.
        labels: those that are kept, by the reference's probability, the likeliest first.
        values: precision, the reference's too → a probability (or score) of each of ``labels``; empty where its logits
            are not finite.
        chosen: precision → the labels that it chose.
        gap: logits between the reference's first and second class; None without a second.
        moved: candidate → the largest change of a probability (or of the score) over all classes.
    """

    name: str
    labels: tuple[str, ...]
    values: dict[str, tuple[float, ...]]
    chosen: dict[str, tuple[str, ...]]
    gap: float | None
    moved: dict[str, float]

    def flipped(self, name: str, reference: str) -> bool:
        """Whether a candidate chose other classes than a finite reference; one that is not finite chose none."""
        return bool(self.values[reference]) and self.chosen[name] != self.chosen[reference]


@dataclass(frozen=True, slots=True)
class Classes:
    """``reading`` is one of ``READINGS``; ``reads`` is ``"text"`` or ``"pictures"``."""

    schema: int
    request: ClassesRequest
    created: str
    environment: Environment
    architecture: str
    task: str
    reads: str
    reading: str
    classes: int
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def counted(self) -> tuple[Item, ...]:
        """Those that the reference gave finite logits for."""
        return tuple(item for item in self.items if item.values[self.request.reference])


@dataclass(frozen=True, slots=True)
class Statistics:
    """``flips``: share of items whose chosen classes are others than the reference's; ``moved``: the largest change of
    a probability, on average over items with finite logits."""

    flips: Estimate
    moved: Estimate | None


def statistics(found: Classes, name: str) -> Statistics | None:
    """Of the candidate of that name; None where the reference was never finite."""
    items = found.counted
    if not items:
        return None
    flips = [float(item.flipped(name, found.request.reference)) for item in items]
    moved = [item.moved[name] for item in items if name in item.moved]
    return Statistics(of_items(flips, "share", either=True), of_items(moved, "share") if moved else None)
