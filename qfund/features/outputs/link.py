"""What the page Outputs is asked for as one value, and that value as the address of the page."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from qfund.checkpoints import catalog, checkpoint
from qfund.core import parameters
from qfund.core.errors import QfundError
from qfund.core.parameters import Meant, Parameter, Query, count, last, names, number, text
from qfund.features.captions import link as captions_link
from qfund.features.captions.request import CaptionRequest
from qfund.features.kv.link import CACHES
from qfund.features.outputs.request import classes, embeddings, generation
from qfund.features.outputs.request.classes import DEFAULT_TEXTS as TEXTS
from qfund.features.outputs.request.classes import ClassesRequest
from qfund.features.outputs.request.embeddings import POOLINGS, EmbeddingsRequest
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.features.outputs.request.verdicts import MARGIN, Margin
from qfund.inputs import pairs
from qfund.inputs.pairs import Pair
from qfund.precisions.request import ALSO, candidates_of
from qfund.precisions.table import PRECISIONS
from qfund.ui.address import Address

#: Names of the views as they stand in an address, and their titles.
VIEWS = {"text": "Text", "classes": "Classes", "embeddings": "Embeddings", "captions": "Captions"}
#: The model that each opens on.
MODELS = {
    "text": generation.EXAMPLE.model,
    "classes": classes.EXAMPLE.model,
    "embeddings": embeddings.EXAMPLE.model,
    "captions": captions_link.Asked().model,
}
#: Address → part of the margin, how often it stands there for 1, and the largest.
MARGINS = {"cos": ("cosine", 1.0, 2.0), "order": ("order", 100.0, 100.0), "flips": ("flips", 100.0, 100.0)}
MARGINS |= {"rho": ("correlation", 1.0, 2.0)}
LONGEST = 8000  # characters of an encoded link: browsers, servers and messengers cut longer ones
MAX_TEXT = 4000  # characters of one text on this page; the command line takes longer ones
MAX_TEXTS = 64  # texts on this page
MAX_PAIRS = 2000  # scored pairs on this page


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        model: that of ``MODELS`` unless one is named.
        prompts: None for the project's own. ``texts``: to classify; ``sentences``: to embed.
        look: the candidate whose example is looked at, and ``example`` which: 0 for the worst.
        pairs: what people find alike, to be embedded too.
        cosine, order, flips, correlation: the margin; no part of what is measured.
        kv: caches that are rounded too where texts are written.
        captions: what the view of that name asks for.
        files: quantised files that write too.
    """

    view: str = "text"
    model: str = ""
    revision: str | None = None
    reference: str = "fp32"
    precisions: tuple[str, ...] = generation.DEFAULT_PRECISIONS
    also: tuple[str, ...] = ()
    prompts: tuple[str, ...] | None = None
    new_tokens: int = generation.DEFAULT_NEW_TOKENS
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    texts: tuple[str, ...] = TEXTS
    query: str = embeddings.DEFAULT_QUERY
    sentences: tuple[str, ...] = embeddings.DEFAULT_TEXTS
    pooling: str = embeddings.OWN
    look: str | None = None
    example: int = 0
    cosine: float = MARGIN.cosine
    order: float = MARGIN.order
    flips: float = MARGIN.flips
    chat: bool = False
    pairs: tuple[Pair, ...] = ()
    correlation: float = MARGIN.correlation
    kv: tuple[str, ...] = ()
    captions: captions_link.Asked = field(default_factory=captions_link.Asked)
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.model or MODELS[self.view])

    @property
    def margin(self) -> Margin:
        return Margin(self.cosine, self.order, self.flips, self.correlation)

    @property
    def request(self) -> GenerationRequest | ClassesRequest | EmbeddingsRequest | CaptionRequest:
        """What the view that is open asks for."""
        if self.view == "classes":
            return ClassesRequest(
                self.model, self.reference, self.precisions, self.texts, also=self.also, revision=self.revision
            )
        if self.view == "embeddings":
            return EmbeddingsRequest(
                self.model,
                self.reference,
                self.precisions,
                self.query,
                self.sentences,
                self.pooling,
                self.also,
                self.revision,
                self.pairs,
            )
        if self.view == "captions":
            return self.captions.request
        return GenerationRequest(
            self.model,
            self.reference,
            self.precisions,
            self.prompts,
            self.new_tokens,
            self.stop,
            self.temperature,
            self.seed,
            self.also,
            self.revision,
            self.chat,
            self.kv,
            self.files,
        )

    @property
    def candidates(self) -> tuple[str, ...]:
        """All that stand beside the reference in the view that is open."""
        return candidates_of(self) if self.view == "text" else self.precisions


def _many(field: str) -> Parameter:
    """Texts of any kind, a value each."""

    def read(short: str, values: list[str]) -> Meant:
        if len(values) > MAX_TEXTS or any(len(value) > MAX_TEXT for value in values):
            return None, [f"Ignored {short}=: this page takes {MAX_TEXTS} texts of {MAX_TEXT:,} characters each."]
        return tuple(values), []

    return Parameter(field, lambda texts: list(texts or ()), read)


def _read_pairs(short: str, values: list[str]) -> Meant:
    """Of a JSON list each: two texts and a score."""
    try:
        found = pairs.of_file("\n".join(values)) if any(values) else ()
        pairs.check(found[: MAX_PAIRS + 1], MAX_TEXT)
    except QfundError as error:
        return None, [f"Ignored {short}=: {error.message}"]
    if len(found) > MAX_PAIRS:
        return None, [f"Ignored {short}=: this page takes {MAX_PAIRS:,} pairs."]
    return found, []


def _written_pairs(found: tuple[Pair, ...]) -> list[str]:
    return [json.dumps([pair.first, pair.second, pair.score]) for pair in found]


def _temperature(short: str, values: list[str]) -> Meant:
    value = last(values)
    if (found := number(value, 0, 10)) is None:
        return None, [f"Ignored {short}={value[:40]!r}: no number from 0 to 10."]
    return found, []


def _part(field: str, times: float, most: float) -> Parameter:
    """A part of the margin, which stands so many times in an address."""

    def read(short: str, values: list[str]) -> Meant:
        value = last(values)
        if (found := number(value[:40], 0, most)) is None:
            return None, [f"Ignored {short}={value[:40]!r}: no number from 0 to {most:g}."]
        return found / times, []

    return Parameter(field, lambda value: [f"{times * value:.6g}"], read)


_MANY = {"prompt": "prompts", "text": "texts", "sentence": "sentences", "stop": "stop", "quantized": "files"}
_PARAMETERS = {
    "view": text("view", VIEWS),
    "model": text("model", longest=MAX_TEXT),
    "rev": text("revision", longest=MAX_TEXT),
    "ref": text("reference", PRECISIONS),
    "query": text("query", longest=MAX_TEXT),
    "pooling": text("pooling", POOLINGS),
    "look": text("look", longest=MAX_TEXT),
    "kv": CACHES,
    "tokens": count("new_tokens", 1, generation.MAX_NEW_TOKENS),
    "seed": count("seed", 0, 2**32 - 1),
    "example": count("example", 0, generation.MAX_PROMPTS),
    "temperature": Parameter("temperature", lambda value: [f"{value:g}"], _temperature),
    **{short: _part(*part) for short, part in MARGINS.items()},
    "chat": Parameter("chat", lambda value: ["1"] if value else ["0"], lambda short, values: (last(values) == "1", [])),
    "p": names("precisions", PRECISIONS),
    "also": names("also", ALSO),
    **{short: _many(field) for short, field in _MANY.items()},
    "pair": Parameter("pairs", _written_pairs, _read_pairs),
}
#: What stands in an address only where its view is open.
_OF_VIEW = {
    "text": ("prompt", "tokens", "temperature", "seed", "stop", "look", "example", "chat", "kv", "quantized"),
    "classes": ("text", "example", "flips"),
    "embeddings": ("query", "sentence", "pooling", "look", "cos", "order", "pair", "rho"),
}


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice of the view that is open; what is as it comes is left out, but for the
    model, the precisions and the view."""
    if asked.view == "captions":
        return {"view": ["captions"], **captions_link.to_query(asked.captions)}
    usual = Asked()
    idle = {short for view, shorts in _OF_VIEW.items() for short in shorts} - set(_OF_VIEW[asked.view])
    idle |= {short for short, field in _MANY.items() if getattr(asked, field) == getattr(usual, field)}
    idle |= {short for short, (field, *_) in MARGINS.items() if getattr(asked, field) == getattr(usual, field)}
    idle |= set() if asked.chat else {"chat"}
    idle |= set() if asked.kv else {"kv"}
    idle |= set() if asked.pairs else {"pair", "rho"}
    idle |= set() if asked.temperature else {"temperature", "seed"}
    idle |= set() if asked.example else {"example"}
    return _without(idle, parameters.to_query(asked, _PARAMETERS))


def _without(left_out: Collection[str], query: Query) -> Query:
    return {short: values for short, values in query.items() if short not in left_out}


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    view = last([*query.get("view", [])])
    if view == "captions":
        captions, problems = captions_link.from_query({name: query[name] for name in query if name != "view"})
        return Asked(view="captions", captions=captions), problems
    return parameters.from_query(Asked(view if view in VIEWS else "text"), _PARAMETERS, query)


def _opened(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """As ``from_query``; a link that names no view opens the one that its model is for."""
    asked, problems = from_query(query)
    if not query.get("view") and _gives_classes(asked):
        asked = replace(asked, view="classes")
    return asked, problems


def _gives_classes(asked: Asked) -> bool:
    """Whether a model that lies here is called a classifier by its config."""
    try:
        folder = catalog.locate(asked.model, asked.revision).folder
        return folder is not None and "Classification" in checkpoint.read(folder).architecture
    except QfundError:  # said where the model is asked for something
        return False


def fits(asked: Asked) -> bool:
    """Whether a link can hold it."""
    return len(urlencode(to_query(asked), doseq=True)) <= LONGEST


def _written(asked: Asked) -> Query:
    """Too long texts are left out."""
    return to_query(asked) if fits(asked) else _without({*_MANY, "pair"}, to_query(asked))


ADDRESS = Address("outputs_link", _written, _opened)
