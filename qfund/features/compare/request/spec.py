"""``Spec``: one comparison as a frozen value: the link, the command line, the cache key, the export's header."""

from dataclasses import dataclass, field, replace

import msgspec

from qfund.core.errors import InvalidSpec
from qfund.core.names import look_up
from qfund.core.request import LATER
from qfund.features.compare.request import margin
from qfund.features.compare.request.margin import Margin
from qfund.inputs.texts import ALL, CHAT, MAX_NAME, MAX_TEXT, MAX_TEXTS, SCORINGS, SECOND_HALF, NamedText
from qfund.precisions.caches import checked_kv
from qfund.precisions.files import family_of
from qfund.precisions.precision import GGUF
from qfund.precisions.request import candidates_of, canonical, take_usual_reference, weights_named

MAX_TOKENS = 1_000_000

MAX_CONTEXT = 131_072
DEFAULT_CANDIDATES = ("bf16", "fp16", "int8")
DEFAULT_TOKENS = 16_384

DRIFT, MAP, NOISE = "drift", "map", "noise"
#: What a comparison may do without: no metric needs any of them, but without the noise no verdict knows its floor.
PARTS = {
    DRIFT: "the error of the hidden states along the blocks",
    MAP: "the text token by token",
    NOISE: "what the reference differs from itself by",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What to compare.

    Attributes:
        model: a catalog name, a local folder with a Hugging Face checkpoint, or a Hub id ``owner/name``.
        reference: the precision that the candidates are compared with. Left out it is fp32, or what is stored where
            nothing but that is compared.
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
        until: read on only for those candidates of which it is not certain yet whether they are within this margin;
            None reads all of the input for all.
        files: quantised files (or folders) of the model, candidates too: paths, or ``owner/name@revision:file`` of the
            Hub; in the order in which they are given. A name of ``candidates`` may be the ``reference``.
        kv: caches that keys and values are rounded to where they are written (``precisions.caches``), ``"q8_0"`` or
            apart ``"q8_0/q4_0"``. The reference and each candidate are compared with each of them too; the reference
            itself, and what is not named here, caches as it computes.
        imatrix: an importance matrix (``llama-imatrix``), a path or ``owner/name@revision:file`` of the Hub: candidates
            that are types of GGUF files are rounded as llama-quantize rounds with it.
        without: what is not measured, names of ``PARTS``: each takes its time.
    """

    model: str
    reference: str = ""
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
    until: Margin | None = field(default=None, metadata=LATER)
    files: tuple[str, ...] = field(default=(), metadata=LATER)
    kv: tuple[str, ...] = field(default=(), metadata=LATER)
    imatrix: str | None = field(default=None, metadata=LATER)
    without: tuple[str, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        take_usual_reference(self)

    @property
    def candidates(self) -> tuple[str, ...]:
        """As ``precisions.request.candidates_of``."""
        return candidates_of(self)

    @property
    def weights(self) -> tuple[str, ...]:
        """Those of ``candidates`` that cache as they compute."""
        return weights_named(self)


def like_llama_cpp(spec: Spec) -> Spec:
    """The same comparison on the positions that ``llama-perplexity`` scores of the same text: all of it, in whole
    chunks of ``context`` tokens, the second half of each."""
    return replace(spec, scoring=SECOND_HALF, stride=None, max_tokens=MAX_TOKENS)


def checked(spec: Spec) -> Spec:
    """The same comparison in its one canonical form: names known, candidates in table order without repeats.

    Raises:
        UnknownName: a precision that is not in the table, or a part that is not in ``PARTS``.
        InvalidSpec: a value out of range.
    """
    spec = canonical(spec)
    if not 1 <= spec.max_tokens <= MAX_TOKENS:
        raise InvalidSpec(f"max_tokens is {spec.max_tokens}.", f"Give a number from 1 to {MAX_TOKENS:,}.")
    if spec.context is not None and not 2 <= spec.context <= MAX_CONTEXT:
        raise InvalidSpec(f"context is {spec.context}.", f"Give a number of tokens from 2 to {MAX_CONTEXT:,}.")
    if spec.text is not None and len(spec.text) > MAX_TEXT:
        raise InvalidSpec(f"The text has {len(spec.text):,} characters.", f"Give at most {MAX_TEXT:,}.")
    _check_chunks(spec)
    _check_texts(spec)
    spec = _with_importance(spec)
    if spec.until is not None:
        margin.checked(spec.until)
    for name in spec.without:
        look_up(PARTS, name, "part to leave out")
    without = tuple(name for name in PARTS if name in spec.without)
    texts = tuple(sorted(spec.texts, key=lambda named: named.name))
    return replace(spec, texts=texts, kv=checked_kv(spec.kv), without=without)


def _with_importance(spec: Spec) -> Spec:
    if spec.imatrix is None:
        return spec
    given = spec.imatrix.strip()
    if not given or "\0" in given or len(given) > 1024:
        raise InvalidSpec("The importance matrix has no name.", "Give its path, or owner/name:file of the Hub.")
    if family_of(spec.reference) == GGUF:
        raise InvalidSpec(
            "An importance matrix changes the candidates, and the reference is a GGUF type.",
            "Choose a cast (fp32) as the reference.",
        )
    if not any(family_of(name) == GGUF for name in spec.precisions):
        raise InvalidSpec(
            "An importance matrix is given and no candidate that it changes.",
            "Name types of GGUF files too: q4_k_m, q2_k_mix, …",
        )
    return replace(spec, imatrix=given)


def _check_chunks(spec: Spec) -> None:
    look_up(SCORINGS, spec.scoring, "way of scoring")
    if spec.stride is None:
        return
    if not 1 <= spec.stride <= (spec.context or MAX_CONTEXT):
        most = f"the context, {spec.context:,}" if spec.context else f"{MAX_CONTEXT:,}"
        raise InvalidSpec(f"stride is {spec.stride:,}.", f"Give a number of tokens from 1 to {most}.")
    if spec.scoring in CHAT:
        raise InvalidSpec("Conversations are not cut into chunks.", "Leave the stride out.")
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
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidSpec(f"Not a comparison: {error}.", "Export it again.") from error
