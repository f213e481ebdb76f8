"""Texts as an input: how many, how long, and which of their positions are scored."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NamedText:
    """One text of several, under the name of its file."""

    name: str
    text: str


MAX_TEXT = 4_000_000  # characters, of all texts together
MAX_TEXTS = 1000
MAX_NAME = 200  # characters of a text's name

#: Which positions are scored.
ALL, SECOND_HALF, ANSWERS, WRITTEN = "all", "second-half", "answers", "reference-answers"
SCORINGS = {
    ALL: "every position",
    SECOND_HALF: "the second half of each whole chunk, where every token has context, as llama.cpp does",
    ANSWERS: "the answers in conversations (JSON), written by the checkpoint's own chat template",
    WRITTEN: "answers that the reference itself writes first, greedily, to what conversations (JSON) ask last",
}
#: Those that read conversations.
CHAT = (ANSWERS, WRITTEN)


class OneText:
    """What an ``InputRequest`` says whose one text is read in plain chunks, every position scored."""

    __slots__ = ()

    @property
    def texts(self) -> tuple[NamedText, ...]:
        return ()

    @property
    def stride(self) -> int | None:
        return None

    @property
    def scoring(self) -> str:
        return ALL


class InputRequest(Protocol):
    """What a request says of its input: see ``qfund.features.compare.request.spec.Spec``."""

    @property
    def text(self) -> str | None: ...
    @property
    def texts(self) -> tuple[NamedText, ...]: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def context(self) -> int | None: ...
    @property
    def stride(self) -> int | None: ...
    @property
    def scoring(self) -> str: ...
