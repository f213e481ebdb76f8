"""What the page Outputs is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import streamlit as st

from qfund import catalog, checkpoint, embeddings, generation
from qfund.classes import DEFAULT_TEXTS as TEXTS
from qfund.classes import ClassesRequest
from qfund.embeddings import POOLINGS, EmbeddingsRequest
from qfund.errors import QfundError
from qfund.generation import GenerationRequest
from qfund.precisions import PRECISIONS
from qfund.spec import ALSO

#: Names of the views as they stand in an address, and their titles.
VIEWS = {
    "text": ":material/notes: Text",
    "classes": ":material/category: Classes",
    "embeddings": ":material/scatter_plot: Embeddings",
}
LONGEST = 8000  # characters of an encoded link: browsers, servers and messengers cut longer ones
MAX_TEXT = 4000  # characters of one text on this page; the command line takes longer ones
MAX_TEXTS = 64  # texts on this page
_ASKED, _QUERY, _PROBLEMS = "outputs_link_asked", "outputs_link_query", "outputs_link_problems"


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        prompts: None for the project's own. ``texts``: to classify; ``sentences``: to embed.
        look: the candidate whose example is looked at, and ``example`` which: 0 for the worst.
    """

    view: str = "text"
    model: str = catalog.EXAMPLE.model
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
    pooling: str = "mean"
    look: str | None = None
    example: int = 0

    @property
    def request(self) -> GenerationRequest | ClassesRequest | EmbeddingsRequest:
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
            )
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
        )


_TEXTS = {
    "view": "view",
    "model": "model",
    "rev": "revision",
    "ref": "reference",
    "query": "query",
    "pooling": "pooling",
    "look": "look",
}
_CHOICES = {
    "view": tuple(VIEWS),
    "ref": tuple(PRECISIONS),
    "pooling": tuple(POOLINGS),
    "look": tuple(PRECISIONS),
}
_NUMBERS = {"tokens": ("new_tokens", 1, generation.MAX_NEW_TOKENS), "seed": ("seed", 0, 2**32 - 1)}
_NUMBERS |= {"example": ("example", 0, generation.MAX_PROMPTS)}
_LISTS = {"p": "precisions", "also": "also"}
_MANY = {"prompt": "prompts", "text": "texts", "sentence": "sentences", "stop": "stop"}
#: What stands in an address only where its view is open.
_OF_VIEW = {
    "text": ("prompt", "tokens", "temperature", "seed", "stop", "look", "example"),
    "classes": ("text", "example"),
    "embeddings": ("query", "sentence", "pooling", "look"),
}


def to_query(asked: Asked) -> dict[str, list[str]]:
    """Query parameters that name every choice of the view that is open; what is as it comes is left out, but for the
    model, the precisions and the view."""
    usual = Asked()
    query = {short: [str(getattr(asked, name) or "")] for short, name in _TEXTS.items()}
    query |= {short: [str(getattr(asked, name))] for short, (name, _, _) in _NUMBERS.items()}
    query |= {"temperature": [f"{asked.temperature:g}"]}
    query |= {short: list(getattr(asked, name)) for short, name in _LISTS.items()}
    query |= {short: list(getattr(asked, name) or ()) for short, name in _MANY.items() if _changed(asked, usual, name)}
    foreign = {short for view, shorts in _OF_VIEW.items() for short in shorts} - set(_OF_VIEW[asked.view])
    idle = set() if asked.temperature else {"temperature", "seed"}
    idle |= set() if asked.example else {"example"}
    return {
        short: values for short, values in query.items() if short not in foreign | idle and values and values != [""]
    }


def _changed(asked: Asked, usual: Asked, name: str) -> bool:
    return bool(getattr(asked, name) != getattr(usual, name))


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    asked, problems = Asked(), []
    for short, values in query.items():
        value = values[-1][:MAX_TEXT] if values else ""
        if short in _NUMBERS:
            name, least, most = _NUMBERS[short]
            if value.isascii() and value.isdigit() and least <= int(value[:20]) <= most:
                asked = replace(asked, **{name: int(value)})  # type: ignore[arg-type]
            else:
                problems.append(f"Ignored {short}={value[:40]!r}: no number from {least} to {most:,}.")
        elif short == "temperature":
            if (number := _number(value)) is not None:
                asked = replace(asked, temperature=number)
            else:
                problems.append(f"Ignored temperature={value[:40]!r}: no number from 0 to 10.")
        elif short in _LISTS:
            known = ALSO if short == "also" else PRECISIONS
            if ignored := [name for name in values if name not in known]:
                problems.append(f"Ignored unknown {short}={', '.join(repr(name[:40]) for name in ignored)}.")
            if found := tuple(name for name in known if name in values):
                asked = replace(asked, **{_LISTS[short]: found})  # type: ignore[arg-type]
        elif short in _MANY:
            if len(values) > MAX_TEXTS or any(len(text) > MAX_TEXT for text in values):
                problems.append(f"Ignored {short}=: this page takes {MAX_TEXTS} texts of {MAX_TEXT:,} characters each.")
            else:
                asked = replace(asked, **{_MANY[short]: tuple(values)})  # type: ignore[arg-type]
        elif short in _TEXTS:
            if value and value not in _CHOICES.get(short, (value,)):
                problems.append(f"Ignored {short}={value[:40]!r}. Available: {', '.join(_CHOICES[short])}.")
            elif value:
                asked = replace(asked, **{_TEXTS[short]: value})  # type: ignore[arg-type]
        else:
            problems.append(f"Ignored unknown link parameter: {short[:40]}.")
    return asked, problems


def _number(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if 0 <= found <= 10 else None


def _current() -> dict[str, list[str]]:
    return {name: st.query_params.get_all(name) for name in st.query_params}


def opened() -> tuple[Asked, bool]:
    """What the address asks for, and whether that is new, so that the widgets begin at it."""
    state, query = st.session_state, _current()
    if _ASKED in state and query in ({}, state[_QUERY]):
        return state[_ASKED], False
    asked, state[_PROBLEMS] = from_query(query)
    if not query.get("view") and _gives_classes(asked):
        asked = replace(asked, view="classes")
    show(asked)
    return asked, True


def _gives_classes(asked: Asked) -> bool:
    """Whether a model that lies here is called a classifier by its config."""
    try:
        folder = catalog.locate(asked.model, asked.revision).folder
        return folder is not None and "Classification" in checkpoint.read(folder).architecture
    except QfundError:  # said where the model is asked for something
        return False


def show(asked: Asked) -> None:
    """Make the address name these choices; too long texts are left out of it."""
    state, query = st.session_state, to_query(asked)
    if state.get(_ASKED) not in (None, asked) and _QUERY in state:
        state[_PROBLEMS] = []  # somebody has chosen something else than the link
    if not fits(asked):
        query = {short: values for short, values in query.items() if short not in _MANY}
    if _current() != query:
        st.query_params.from_dict(query)
    state[_ASKED], state[_QUERY] = asked, _current()


def fits(asked: Asked) -> bool:
    """Whether a link can hold it."""
    return len(urlencode(to_query(asked), doseq=True)) <= LONGEST


def problems() -> list[str]:
    """What had to be ignored in the link that was opened."""
    found: list[str] = st.session_state.get(_PROBLEMS, [])
    return found


def address(asked: Asked) -> str:
    """The complete link of this page."""
    base = (st.context.url or "").split("?")[0].rstrip("/")
    return f"{base}?{urlencode(to_query(asked), doseq=True)}"


def names_a_folder(asked: Asked) -> bool:
    """Whether the link names a folder on this machine, and so opens nowhere else."""
    try:
        return catalog.locate(asked.model, asked.revision).kind == "folder"
    except QfundError:
        return False


def current() -> Asked:
    """What the address names now."""
    found: Asked = st.session_state[_ASKED]
    return found
