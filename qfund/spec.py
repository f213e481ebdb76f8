"""``Spec``: one comparison as a frozen value: the link, the command line, the cache key, the export's header."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from qfund.errors import InvalidSpec, QfundError
from qfund.names import look_up
from qfund.precisions import PRECISIONS, STORED, precision

#: Version of the link format (the parameter ``v``).
LINK_VERSION = 1
MAX_TOKENS = 1_000_000
MAX_TEXT = 4_000_000  # characters
DEFAULT_CANDIDATES = ("bf16", "fp16", "int8")
DEFAULT_TOKENS = 16_384
#: Kinds of modules that quantisers leave alone unless they are asked for.
ALSO = {"head": "the output head", "embeddings": "token and position embeddings"}


class Request(Protocol):
    """What is asked of a model: a ``Spec``, or another frozen dataclass that names the model as it does."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Spec:
    """What to compare.

    Attributes:
        model: a catalog name, a local folder with a Hugging Face checkpoint, or a Hub id ``owner/name``.
        reference: the precision that the candidates are compared with.
        precisions: the candidates, without repeats, in the table's order.
        text: the input; None takes the model's own evaluation text (or the project's pictures).
        max_tokens: at most this many tokens of the text are used, from its start.
        context: tokens per chunk; None takes the model's own context, at most 512.
        revision: branch, tag or commit of a Hub id; None takes ``main``.
        also: what quantisers convert besides linear layers, convolutions and experts: names of ``ALSO``.
        libraries: run the libraries that implement the candidates too, and time everything in turns.
    """

    model: str
    reference: str = "fp32"
    precisions: tuple[str, ...] = DEFAULT_CANDIDATES
    text: str | None = None
    max_tokens: int = DEFAULT_TOKENS
    context: int | None = None
    revision: str | None = None
    also: tuple[str, ...] = ()
    libraries: bool = False


def checked(spec: Spec) -> Spec:
    """The same comparison in its one canonical form: names known, candidates in table order without repeats.

    Raises:
        UnknownName: a precision that is not in the table.
        InvalidSpec: a value out of range.
    """
    if not spec.model.strip() or len(spec.model) > 1024 or "\0" in spec.model:
        raise InvalidSpec("No model is named.", "Name a catalog model, a folder or a Hub id (owner/name).")
    precision(spec.reference)
    if not spec.precisions:
        raise InvalidSpec("No candidate precision is named.", f"Choose among: {', '.join(PRECISIONS)}.")
    for name in spec.precisions:
        precision(name)
    if not 1 <= spec.max_tokens <= MAX_TOKENS:
        raise InvalidSpec(f"max_tokens is {spec.max_tokens}.", f"Give a number from 1 to {MAX_TOKENS:,}.")
    if spec.context is not None and not 2 <= spec.context <= 131_072:
        raise InvalidSpec(f"context is {spec.context}.", "Give a number of tokens from 2 to 131,072.")
    if spec.text is not None and len(spec.text) > MAX_TEXT:
        raise InvalidSpec(f"The text has {len(spec.text):,} characters.", f"Give at most {MAX_TEXT:,}.")
    for name in spec.also:
        look_up(ALSO, name, "kind of module")
    ordered = tuple(name for name in PRECISIONS if name in spec.precisions)
    if all(PRECISIONS[name].family == STORED for name in ordered):  # nothing else can stand beside it
        spec = replace(spec, reference=ordered[0])
    also = tuple(name for name in ALSO if name in spec.also)
    return replace(spec, model=spec.model.strip(), precisions=ordered, revision=spec.revision or None, also=also)


def to_json(spec: Spec) -> bytes:
    return msgspec.json.encode(spec)


def from_json(document: bytes) -> Spec:
    """The inverse of ``to_json``.

    Raises:
        InvalidSpec: not a document of this shape.
    """
    try:
        return checked(msgspec.json.decode(document, type=Spec))
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidSpec(f"Not a comparison: {error}.", "Export it again.") from error


# The link: short names, candidates as repeats of ``p``. Every parameter is written but the two that came later.
_NUMBERS = {"tokens": "max_tokens", "context": "context"}
_STRINGS = {"model": "model", "ref": "reference", "text": "text", "rev": "revision"}
QUERY_NAMES = frozenset({"v", "p", "also", "libraries", *_NUMBERS, *_STRINGS})


def to_query(spec: Spec) -> dict[str, list[str]]:
    """Query parameters that name every part of the comparison.

    A part that is None is written as an empty value, but for ``text``: absent is None, empty is an empty text.
    """
    query: dict[str, list[str]] = {"v": [str(LINK_VERSION)]}
    for short, name in (_STRINGS | _NUMBERS).items():
        value = getattr(spec, name)
        if value is not None:
            query[short] = [str(value)]
        elif short != "text":
            query[short] = [""]
    query["p"] = list(spec.precisions)
    if spec.also:
        query["also"] = list(spec.also)
    if spec.libraries:
        query["libraries"] = ["1"]
    return query


def from_query(query: Mapping[str, Iterable[str]], default: Spec) -> tuple[Spec, list[str]]:
    """The comparison that a link asks for, and a sentence for each thing in it that had to be ignored.

    A part that is absent or unreadable is taken from ``default``.
    """
    problems: list[str] = []
    given = {key: list(values) for key, values in query.items()}
    unknown = sorted(set(given) - QUERY_NAMES)
    if unknown:
        problems.append(f"Ignored unknown link parameter{'s' * (len(unknown) > 1)}: {', '.join(unknown)}.")
    version = (given.get("v") or [str(LINK_VERSION)])[-1]
    if version != str(LINK_VERSION):
        problems.append(f"The link has version {version!r}; this qfund reads version {LINK_VERSION} and did its best.")
    spec = default
    for short, name in _STRINGS.items():
        if given.get(short):
            value = given[short][-1]
            spec, problem = _with(spec, name, value if value or short == "text" else None, short)
            problems += problem
    for short, name in _NUMBERS.items():
        if given.get(short):
            value = given[short][-1]
            if value == "" and name == "context":
                spec = replace(spec, context=None)
            elif value.isascii() and value.isdigit() and len(value) < 10:
                spec, problem = _with(spec, name, int(value), short)
                problems += problem
            else:
                problems.append(f"Ignored {short}={value[:40]!r} in the link: not a number.")
    if "p" in given:
        known = tuple(name for name in given["p"] if name in PRECISIONS)
        ignored = [name for name in given["p"] if name not in PRECISIONS]
        if ignored:
            problems.append(f"Ignored unknown precision {', '.join(repr(name[:40]) for name in ignored)} in the link.")
        spec, problem = _with(spec, "precisions", known or default.precisions, "p")
        problems += problem
    if "also" in given or "p" in given:  # a link that names precisions and no ``also`` asks for none
        also = [name for name in given.get("also", ()) if name]
        if ignored := [name for name in also if name not in ALSO]:
            problems.append(f"Ignored unknown {', '.join(repr(name[:40]) for name in ignored)} of also= in the link.")
        spec = replace(spec, also=tuple(name for name in ALSO if name in also))
    if "libraries" in given or "p" in given:
        spec = replace(spec, libraries=(given.get("libraries") or ["0"])[-1] == "1")
    return spec, problems


def _with(spec: Spec, name: str, value: object, short: str) -> tuple[Spec, list[str]]:
    """``spec`` with one part replaced, or as it was and a sentence that says why not."""
    if value is None and name in ("model", "reference"):
        return spec, []
    try:
        return checked(replace(spec, **{name: value})), []  # type: ignore[arg-type]
    except QfundError as error:
        return spec, [f"Ignored {short}={str(value)[:40]!r} in the link: {error.message}"]
