"""What requests share that ask for a model's outputs in several precisions, beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from qfund.core.errors import InvalidInput, InvalidSpec
from qfund.core.names import look_up
from qfund.core.request import model_name
from qfund.precisions.caches import crossed
from qfund.precisions.files import file_names, is_file
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS, precision

MAX_TEXT = 20_000  # characters of one text


class PrecisionsRequest(Protocol):
    """A frozen dataclass that names these as ``qfund.features.compare.request.spec.Spec`` does."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def reference(self) -> str: ...
    @property
    def precisions(self) -> tuple[str, ...]: ...
    @property
    def also(self) -> tuple[str, ...]: ...


Request = TypeVar("Request", bound=PrecisionsRequest)


def canonical(request: Request) -> Request:
    """The request with its names known, in the tables' order and without repeats.

    Raises:
        UnknownName: a precision or kind of module that there is not.
        InvalidSpec: no model, or no candidate.
    """
    model = model_name(request.model)
    files = file_names(getattr(request, "files", ()))
    reference = next((name for name, file in files.items() if request.reference in (name, file)), request.reference)
    if reference not in files:
        _reference(reference, files)
    if not (request.precisions or files.keys() - {reference} or getattr(request, "kv", ())):
        raise InvalidSpec("No candidate precision is named.", f"Choose among: {', '.join(PRECISIONS)}.")
    for name in request.precisions:
        precision(name)
    for name in request.also:
        look_up(ALSO, name, "kind of module")
    reference = reference_of(reference, request.precisions)
    changed: Any = replace(
        request,  # type: ignore[type-var]
        model=model,
        reference=reference,
        precisions=tuple(name for name in PRECISIONS if name in request.precisions),
        also=tuple(name for name in ALSO if name in request.also),
        revision=request.revision or None,
    )
    return changed  # type: ignore[no-any-return]


def weights_named(request: PrecisionsRequest) -> tuple[str, ...]:
    """Names of all whose weights are compared with the reference's: precisions, then the quantised files of a request
    that has such."""
    files = file_names(getattr(request, "files", ()))
    return (*request.precisions, *(name for name in files if name != request.reference))


def candidates_of(request: PrecisionsRequest) -> tuple[str, ...]:
    """Names of all that is compared with the reference: ``weights_named``; then, of a request with caches, the same and
    the reference with each of them."""
    return crossed(request.reference, weights_named(request), getattr(request, "kv", ()))


def _reference(name: str, files: Mapping[str, str]) -> None:
    """
    Raises:
        UnknownName: no such precision.
        InvalidSpec: a file that is not among those named.
    """
    if is_file(name):
        raise InvalidSpec(
            f"The reference {name} is none of the quantised files.",
            f"Choose among: {', '.join(files)}." if files else "Name it as a file too.",
        )
    precision(name)


def reference_of(asked: str | None, candidates: Sequence[str]) -> str:
    """The precision that is asked for or fp32; of what is compared as it is stored, the stored form itself.

    Raises:
        InvalidSpec: another one beside nothing but what is stored.
    """
    stored = bool(candidates) and all(name in PRECISIONS and PRECISIONS[name].family == STORED for name in candidates)
    reference = asked or (candidates[0] if stored else "fp32")
    if stored and reference not in candidates:
        raise InvalidSpec(
            f"What is stored cannot be compared with {reference}: the weights that it was made from are gone.",
            "Let it be its own reference, which gives its own perplexity, or compare the original checkpoint.",
        )
    return reference


def take_usual_reference(request: PrecisionsRequest) -> None:
    """The ``__post_init__`` of a request whose reference may be left out: it is settled here, where what nobody asked
    for can still be told from fp32 by name, so that a request never lacks one."""
    object.__setattr__(request, "reference", request.reference or reference_of(None, request.precisions))


def check_texts(texts: Sequence[str], what: str, most: int) -> None:
    """Raises ``InvalidInput`` for no text, too many, an empty or an endless one; ``what`` names one of them."""
    if not texts:
        raise InvalidInput(f"There is no {what}.", f"Give at least one {what}.")
    if len(texts) > most:
        raise InvalidInput(f"There are {len(texts):,} {what}s.", f"Give at most {most:,}.")
    for number, text in enumerate(texts, 1):
        which = f"The {what}" if len(texts) == 1 else f"{what.capitalize()} {number}"
        if not text.strip():
            raise InvalidInput(f"{which} is empty.", "Write something, or leave it out.")
        if len(text) > MAX_TEXT:
            raise InvalidInput(f"{which} has {len(text):,} characters.", f"Give at most {MAX_TEXT:,}.")


#: Kinds of modules that quantisers leave alone unless they are asked for.
ALSO = {"head": "the output head", "embeddings": "token and position embeddings"}
