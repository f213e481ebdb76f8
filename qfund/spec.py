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
MAX_TEXT = 4_000_000  # characters, of all texts together
MAX_TEXTS = 1000
MAX_NAME = 200  # characters of a text's name
MAX_CONTEXT = 131_072
DEFAULT_CANDIDATES = ("bf16", "fp16", "int8")
DEFAULT_TOKENS = 16_384
#: Kinds of modules that quantisers leave alone unless they are asked for.
ALSO = {"head": "the output head", "embeddings": "token and position embeddings"}
#: Which positions are scored.
ALL, SECOND_HALF = "all", "second-half"
SCORINGS = {
    ALL: "every position",
    SECOND_HALF: "the second half of each whole chunk, where every token has context, as llama.cpp does",
}


class Request(Protocol):
    """What is asked of a model: a ``Spec``, or another frozen dataclass that names the model as it does."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class NamedText:
    """One text of several, under the name of its file."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Spec:
    """What to compare.

    Attributes:
        model: a catalog name, a local folder with a Hugging Face checkpoint, or a Hub id ``owner/name``.
        reference: the precision that the candidates are compared with.
        precisions: the candidates, without repeats, in the table's order.
        text: the input; None takes the model's own evaluation text (or the project's pictures).
        max_tokens: at most this many tokens of the text (of each text, where there are several) are used, from its
            start.
        context: tokens per chunk; None takes the model's own context, at most 512.
        revision: branch, tag or commit of a Hub id; None takes ``main``.
        also: what quantisers convert besides linear layers, convolutions and experts: names of ``ALSO``.
        libraries: run the libraries that implement the candidates too, and time everything in turns.
        stride: tokens from the start of one chunk to that of the next, where chunks overlap; what a chunk shares with
            the one before is context and not scored again. None lets each chunk begin where the last one ended.
        scoring: a name of ``SCORINGS``.
        texts: the input in place of ``text``, as a folder of files gives it; in the order of their names.
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
    stride: int | None = None
    scoring: str = ALL
    texts: tuple[NamedText, ...] = ()


def like_llama_cpp(spec: Spec) -> Spec:
    """The same comparison on the positions that ``llama-perplexity`` scores of the same text: all of it, in whole
    chunks of ``context`` tokens, the second half of each."""
    return replace(spec, scoring=SECOND_HALF, stride=None, max_tokens=MAX_TOKENS)


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
    if spec.context is not None and not 2 <= spec.context <= MAX_CONTEXT:
        raise InvalidSpec(f"context is {spec.context}.", f"Give a number of tokens from 2 to {MAX_CONTEXT:,}.")
    if spec.text is not None and len(spec.text) > MAX_TEXT:
        raise InvalidSpec(f"The text has {len(spec.text):,} characters.", f"Give at most {MAX_TEXT:,}.")
    for name in spec.also:
        look_up(ALSO, name, "kind of module")
    _check_chunks(spec)
    _check_texts(spec)
    ordered = tuple(name for name in PRECISIONS if name in spec.precisions)
    if all(PRECISIONS[name].family == STORED for name in ordered):  # nothing else can stand beside it
        spec = replace(spec, reference=ordered[0])
    return replace(
        spec,
        model=spec.model.strip(),
        precisions=ordered,
        revision=spec.revision or None,
        also=tuple(name for name in ALSO if name in spec.also),
        texts=tuple(sorted(spec.texts, key=lambda named: named.name)),
    )


def _check_chunks(spec: Spec) -> None:
    look_up(SCORINGS, spec.scoring, "way of scoring")
    if spec.stride is None:
        return
    if not 1 <= spec.stride <= (spec.context or MAX_CONTEXT):
        raise InvalidSpec(
            f"stride is {spec.stride}.",
            f"Give a number of tokens from 1 to {f'the context, {spec.context:,}' if spec.context else MAX_CONTEXT}.",
        )
    if spec.scoring == SECOND_HALF:
        raise InvalidSpec(
            "A stride and the second half of each chunk are two ways to give every scored token context.",
            "Choose one of them.",
        )


def _check_texts(spec: Spec) -> None:
    if not spec.texts:
        return
    if spec.text is not None:
        raise InvalidSpec("Both a text and several texts are given.", "Give either.")
    if len(spec.texts) > MAX_TEXTS:
        raise InvalidSpec(f"{len(spec.texts):,} texts are given.", f"Give at most {MAX_TEXTS:,}.")
    if (size := sum(len(named.text) for named in spec.texts)) > MAX_TEXT:
        raise InvalidSpec(f"The texts have {size:,} characters together.", f"Give at most {MAX_TEXT:,}.")
    names = [named.name for named in spec.texts]
    if wrong := next((name for name in names if not name.strip() or len(name) > MAX_NAME), None):
        raise InvalidSpec(f"{wrong[:40]!r} is no name for a text.", f"Give 1 to {MAX_NAME} characters.")
    if len(set(names)) < len(names):
        raise InvalidSpec("Two texts have the same name.", "Give each its own.")


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


# The link: short names, candidates as repeats of ``p``, texts as repeats of ``file`` (names) and of ``content``.
# Every parameter is written but those that came later, which are written where they are not what they were before.
_NUMBERS = {"tokens": "max_tokens", "context": "context"}
_STRINGS = {"model": "model", "ref": "reference", "text": "text", "rev": "revision"}
QUERY_NAMES = frozenset({"v", "p", "also", "libraries", "stride", "scoring", "file", "content", *_NUMBERS, *_STRINGS})


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
    if spec.stride is not None:
        query["stride"] = [str(spec.stride)]
    if spec.scoring != ALL:
        query["scoring"] = [spec.scoring]
    if spec.texts:
        query["file"] = [named.name for named in spec.texts]
        query["content"] = [named.text for named in spec.texts]
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
    if "p" in given:  # a link that names precisions names everything: what it does not say is as it always was
        spec = replace(spec, stride=None, scoring=ALL, texts=())
    elif given.get("text"):
        spec = replace(spec, texts=())
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
            else:
                spec, problem = _with_number(spec, name, value, short)
                problems += problem
    if given.get("stride"):
        spec, problem = _with_number(spec, "stride", given["stride"][-1], "stride")
        problems += problem
    if given.get("scoring"):
        spec, problem = _with(spec, "scoring", given["scoring"][-1], "scoring")
        problems += problem
    if given.get("file") or given.get("content"):
        spec, problem = _with_texts(spec, given.get("file", []), given.get("content", []), "text" in given)
        problems += problem
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


def _with_number(spec: Spec, name: str, value: str, short: str) -> tuple[Spec, list[str]]:
    if value.isascii() and value.isdigit() and len(value) < 10:
        return _with(spec, name, int(value), short)
    return spec, [f"Ignored {short}={value[:40]!r} in the link: not a number."]


def _with_texts(spec: Spec, names: list[str], contents: list[str], one: bool) -> tuple[Spec, list[str]]:
    """``one`` says whether the link holds a text without a name too."""
    if len(names) != len(contents):
        return spec, [f"Ignored file= in the link: it names {len(names)} texts and holds {len(contents)}."]
    texts = tuple(map(NamedText, names, contents))
    try:
        return checked(replace(spec, text=spec.text if one else None, texts=texts)), []
    except QfundError as error:
        return spec, [f"Ignored file= in the link: {error.message}"]


def _with(spec: Spec, name: str, value: object, short: str) -> tuple[Spec, list[str]]:
    """``spec`` with one part replaced, or as it was and a sentence that says why not."""
    if value is None and name in ("model", "reference"):
        return spec, []
    try:
        return checked(replace(spec, **{name: value})), []  # type: ignore[arg-type]
    except QfundError as error:
        return spec, [f"Ignored {short}={str(value)[:40]!r} in the link: {error.message}"]
