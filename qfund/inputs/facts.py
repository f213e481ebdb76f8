"""What was measured on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What was measured on.

    ``source`` is ``"text"``, ``"texts"``, ``"evaluation text"``, ``"conversations"`` or ``"pictures"``; ``notes`` are
    sentences for people. ``texts`` are those of a folder, one by one; of a single text there is none.
    """

    source: str
    sha256: str
    tokens: int
    chunks: int
    context: int
    notes: tuple[str, ...] = ()
    texts: tuple["TextFacts", ...] = ()


@dataclass(frozen=True, slots=True)
class TextFacts:
    """One text of several. Its chunks are ``chunks`` in number, after those of the texts before it."""

    name: str
    sha256: str
    tokens: int
    chunks: int
