"""Tokens of a text → the chunks that a model reads one by one, and which of their positions are compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qfund.core.errors import InvalidInput
from qfund.inputs.texts import ALL, SECOND_HALF


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, and the piece of text that each stands for."""

    ids: Sequence[int] = ()
    pieces: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "Tokens":
        return Tokens(self.ids[part], self.pieces[part])

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens([*self.ids, *other.ids], [*self.pieces, *other.pieces])


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one example of a forward reads. Positions ``start`` … ``stop`` − 1 are compared."""

    tokens: Tokens
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Chunking:
    """How texts are cut.

    Attributes:
        context: tokens of a chunk, at most, special ones included.
        stride: text tokens from the start of a chunk to that of the next; None for as many as a chunk has room for.
        scoring: a name of ``texts.SCORINGS``.
        before, after: special tokens that the tokenizer puts around a text.
        predicts_next: whether the output at a position predicts the token after it, and not the token itself.
    """

    context: int
    stride: int | None = None
    scoring: str = ALL
    before: Tokens = field(default_factory=Tokens)
    after: Tokens = field(default_factory=Tokens)
    predicts_next: bool = True

    def __post_init__(self) -> None:
        """
        Raises:
            InvalidInput: a context without room for text, or for a second half; a stride that would skip tokens.
        """
        if self.room < 1 or (self.scoring == SECOND_HALF and self.context < 3):
            raise InvalidInput(f"A context of {self.context} leaves no room for text.", "Give a larger context.")
        if self.stride is not None and self.stride > self.room:
            raise InvalidInput(
                f"A stride of {self.stride:,} skips tokens: a chunk has room for {self.room:,} of the text.",
                f"Give a stride of at most {self.room:,}, or a larger context.",
            )

    @property
    def room(self) -> int:
        """Text tokens of a chunk, at most."""
        return self.context - len(self.before) - len(self.after)

    @property
    def least(self) -> int:
        """Text tokens that a text must have: for one whole chunk, or so that one token predicts the next."""
        return max(2, self.context - len(self.before)) if self.scoring == SECOND_HALF else 2

    @property
    def overlaps(self) -> bool:
        return self.stride is not None and self.stride < self.room

    def cut(self, text: Tokens) -> list[Chunk]:
        """The chunks of one text, in its order; none where it is too short."""
        if len(text) < self.least:
            return []
        return list(self._halves(text) if self.scoring == SECOND_HALF else self._windows(text))

    def unread(self, text: Tokens) -> int:
        """How many tokens at the end of a text fill no chunk, where only whole chunks are read."""
        return (len(self.before) + len(text)) % self.context if self.scoring == SECOND_HALF else 0

    def _windows(self, text: Tokens) -> Iterator[Chunk]:
        """Chunks that begin ``stride`` tokens after each other. What a chunk shares with the one before is context.

        Every token is predicted once, with as much context as there is: where the next chunk predicts what follows a
        chunk's last token, that position is not compared.
        """
        step = self.stride or self.room
        overlap = self.room - step
        last = max(0, -(-(len(text) - self.room) // step)) * step
        for begin in range(0, last + 1, step):
            tokens = self.before + text[begin : begin + self.room] + self.after
            start, stop = 0, len(tokens)
            if overlap and begin:
                start = len(self.before) + overlap - self.predicts_next
            if overlap and begin < last and self.predicts_next:
                stop -= 1
            yield Chunk(tokens, start, stop)

    def _halves(self, text: Tokens) -> Iterator[Chunk]:
        """llama.cpp's: the text behind its first special tokens (``<s>``) in whole chunks, in each of which these take
        the place of the first tokens; positions context / 2 … context − 2 predict the token after them."""
        row = self.before + text
        for begin in range(0, len(row) - self.context + 1, self.context):
            whole = row[begin : begin + self.context]
            yield Chunk(self.before + whole[len(self.before) :], self.context // 2, self.context - 1)
