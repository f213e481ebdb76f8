"""What all requests of this feature have: a model, precisions, and the text that goes through it."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from qfund.core.errors import InvalidSpec, UnavailablePrecision
from qfund.inputs.texts import MAX_TEXT, OneText
from qfund.precisions.precision import STORED
from qfund.precisions.request import canonical
from qfund.precisions.table import PRECISIONS, precision

MAX_TOKENS = 65_536
DEFAULT_TOKENS = 2048
#: Of steps that are worth choosing between: from 4 to 8 bits and a bit, scales included.
DEFAULT_PRECISIONS = ("int8", "int5", "int4", "int3", "nf4")


@dataclass(frozen=True, slots=True)
class Asked(OneText):
    """``text``, ``max_tokens`` and ``context`` as in ``compare``: None takes the model's evaluation text, and its own
    context, at most 512. ``also``: kinds of modules that quantisers convert too."""

    model: str
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    reference: str = "fp32"
    text: str | None = None
    max_tokens: int = DEFAULT_TOKENS
    context: int | None = None
    revision: str | None = None
    also: tuple[str, ...] = ()


Request = TypeVar("Request", bound=Asked)


def checked(request: Request) -> Request:
    """The same in its one canonical form.

    Raises:
        UnknownName: a precision that is not in the table.
        UnavailablePrecision: the form in which a checkpoint is stored: no module of it can be taken alone.
        InvalidSpec: a number out of range, or the reference among the candidates.
    """
    for name in (request.reference, *request.precisions):
        if precision(name).family == STORED:
            raise UnavailablePrecision(
                "The modules of a checkpoint that is quantised already cannot be taken back one by one.",
                "Name the original checkpoint, and precisions of `qfund ls precisions`.",
            )
    request = canonical(request)
    if not 2 <= request.max_tokens <= MAX_TOKENS:
        raise InvalidSpec(f"max_tokens is {request.max_tokens:,}.", f"Give a number from 2 to {MAX_TOKENS:,}.")
    if request.text is not None and len(request.text) > MAX_TEXT:
        raise InvalidSpec(f"The text has {len(request.text):,} characters.", f"Give at most {MAX_TEXT:,}.")
    if PRECISIONS[request.reference].quantizer:
        raise InvalidSpec(
            f"{PRECISIONS[request.reference].label} is no reference for single modules: it is quantised itself.",
            "Choose a float: fp32, bf16 or fp16.",
        )
    left: Any = tuple(name for name in request.precisions if name != request.reference)
    if not left:
        raise InvalidSpec("The only precision is the reference itself.", "Name another one.")
    return replace(request, precisions=left)
