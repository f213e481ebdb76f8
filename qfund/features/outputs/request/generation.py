"""Texts side by side: what is asked (``GenerationRequest``), what was found (``Generation``), and what it comes to.

Every precision goes on with the same prompts, each alone, choosing the likeliest token at every step. Up to the first
token that differs two precisions have read the same, so their logits there can be compared; after it they cannot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from qfund.core.environment import Environment
from qfund.core.errors import InvalidSpec
from qfund.core.estimate import Estimate, of_items
from qfund.core.request import LATER
from qfund.precisions import request as precisions_request
from qfund.precisions.caches import checked_kv

SCHEMA = 1
MAX_PROMPTS = 512
MAX_NEW_TOKENS = 1024
MAX_STOPS = 8
DEFAULT_NEW_TOKENS = 48
DEFAULT_PRECISIONS = ("bf16", "fp16", "int8", "int4", "int2", "nf4")

#: Logits. A preference of at most this much is a tie: the token chosen was at most 1.28 times as likely as the other.
TIE = 0.25
#: Differences of two logits that moved by more than so many times what is usual are called unusual.
USUAL = 2.0
TIED, NOISE, UNUSUAL, NOT_FINITE = "tie", "noise", "unusual error", "not finite"
KINDS = {
    TIED: "the reference itself was undecided: it preferred its token by at most 0.25 logits (1.28 times as likely)",
    NOISE: "no tie, and the error that this precision usually makes there is enough to overturn it",
    UNUSUAL: "no tie, and it took more than twice the error that this precision usually makes there",
    NOT_FINITE: "the logits are NaN or infinite",
}
#: Why a text ends where it does.
ENDS = {
    "end": "the model ended it",
    "stop": "at a stop text",
    "limit": "at the limit",
    "not finite": "its logits are NaN or infinite",
}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to write.

    Attributes:
        model, revision, also: as in a comparison's ``Spec``; ``reference`` and ``precisions`` too.
        prompts: each is continued alone; None takes the project's own (``qfund.inputs.prompts``).
        max_new_tokens: at most so many for each prompt.
        stop: a text ends with the token that completes one of these.
        temperature: 0 takes the likeliest token. Above 0 tokens are drawn, every precision with the same random
            numbers (Gumbel noise on the logits, by ``seed``), so that only the model makes a difference.
        chat: each prompt is a user's message (or a conversation, ``qfund.inputs.conversations.written``), rendered by
            the checkpoint's own chat template; what is written is the answer.
        kv: caches that keys and values are rounded to where they are written, as in a ``Spec``.
        files: quantised files of the model, candidates too, as in ``Spec``.
    """

    model: str
    reference: str = ""
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    prompts: tuple[str, ...] | None = None
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    also: tuple[str, ...] = ()
    revision: str | None = None
    chat: bool = field(default=False, metadata=LATER)
    kv: tuple[str, ...] = field(default=(), metadata=LATER)
    files: tuple[str, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        precisions_request.take_usual_reference(self)

    @property
    def candidates(self) -> tuple[str, ...]:
        """As ``precisions.request.candidates_of``."""
        return precisions_request.candidates_of(self)

    @property
    def weights(self) -> tuple[str, ...]:
        """Those of ``candidates`` that cache as they compute."""
        return precisions_request.weights_named(self)


EXAMPLE = GenerationRequest("pydoc-llama")


def checked(request: GenerationRequest) -> GenerationRequest:
    """The same request in its one canonical form: names known, in the table's order, without repeats.

    Raises:
        UnknownName: a precision or kind of module that there is not.
        InvalidSpec: a value out of range.
        InvalidInput: no prompt, an empty one, or too many.
    """
    request = precisions_request.canonical(request)
    if not 1 <= request.max_new_tokens <= MAX_NEW_TOKENS:
        raise InvalidSpec(
            f"max_new_tokens is {request.max_new_tokens}.", f"Give a number from 1 to {MAX_NEW_TOKENS:,}."
        )
    if not 0 <= request.temperature <= 10:
        raise InvalidSpec(f"temperature is {request.temperature:g}.", "Give a number from 0 to 10; 0 draws nothing.")
    if not 0 <= request.seed < 2**32:
        raise InvalidSpec(f"seed is {request.seed}.", "Give a whole number from 0 to 4,294,967,295.")
    if len(request.stop) > MAX_STOPS or not all(request.stop):
        raise InvalidSpec("These stop texts cannot be used.", f"Give at most {MAX_STOPS}, none of them empty.")
    if request.prompts is not None:
        precisions_request.check_texts(request.prompts, "prompt", MAX_PROMPTS)
    # A seed that nothing is drawn with makes no other request.
    return replace(request, seed=request.seed if request.temperature else 0, kv=checked_kv(request.kv))


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first token that differs.

    Attributes:
        step: 0 for the first new token.
        pieces: the five likeliest tokens of the reference, and then those of the candidate that are not among them.
        reference, candidate: the probabilities that they gave to ``pieces``; the latter empty where its logits are not
            finite.
        chosen: which of ``pieces`` the reference took, and the candidate (None where it is not finite).
        gap: how much more the reference gave its own token than the candidate's.
        top_gap: how much more the reference gave its likeliest token than the second.
        moved: how far the candidate moved the difference of the two: more than ``gap``, or it would not have diverged.
        noise: how far it usually moves such a difference there: √2 times the standard deviation, over the vocabulary,
            of its logits minus the reference's.
        These four are in logits, natural logarithms of ratios of probabilities, and None where the candidate's logits
        are not finite. With a temperature above 0 they are those of the logits over the temperature, with the noise
        that tokens were drawn with.
    """

    step: int
    pieces: tuple[str, ...]
    reference: tuple[float, ...]
    candidate: tuple[float, ...]
    chosen: tuple[int, int | None]
    gap: float | None
    top_gap: float | None
    moved: float | None
    noise: float | None

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        if self.gap is None or self.noise is None:
            return NOT_FINITE
        if self.gap <= TIE:
            return TIED
        return NOISE if self.gap <= USUAL * self.noise else UNUSUAL


@dataclass(frozen=True, slots=True)
class Continuation:
    """What was written after a prompt.

    Attributes:
        tokens: ids, with the one that ended the text; ``pieces`` are what each adds to the text.
        probabilities: of each token, when it was chosen.
        ended: one of ``ENDS``.
    """

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    probabilities: tuple[float, ...]
    ended: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Candidate:
    """``noise``: the mean of ``Divergence.noise`` over all steps at which both had read the same."""

    written: Continuation
    divergence: Divergence | None
    noise: float | None

    @property
    def same(self) -> int:
        """How many tokens are written before the first that differs; all of them where none does."""
        return len(self.written.tokens) if self.divergence is None else self.divergence.step


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt. ``limit``: new tokens that there was room for."""

    prompt: str
    prompt_tokens: int
    limit: int
    reference: Continuation
    candidates: dict[str, Candidate]

    @property
    def sound(self) -> bool:
        """Whether the reference's logits were finite to its end, so that others can be compared with it."""
        return self.reference.ended != "not finite"


@dataclass(frozen=True, slots=True)
class Generation:
    """Texts of one model in several precisions. ``created`` is ISO 8601; ``task`` a name of ``tasks.TASKS``."""

    schema: int
    request: GenerationRequest
    created: str
    environment: Environment
    architecture: str
    task: str
    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def counted(self) -> tuple[Example, ...]:
        """Those that go into statistics: with a finite reference."""
        return tuple(example for example in self.examples if example.sound)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What all prompts together say of one candidate. Standard errors are over prompts, which are independent.

    Attributes:
        same: tokens before the first that differs, on average; a prompt that never diverges counts with all its tokens,
            so this is a lower bound wherever some never do.
        first: the position (1 for the first token) of the first that differs, on average over those that diverge; None
            where none does.
        never: share of prompts that never diverge.
        divergent: share of positions at which the tokens differ, position by position up to the end of the longer text,
            on average over prompts.
        kinds: kind of divergence → how many prompts.
        noise: of a difference of two logits, on average over all steps before and at the divergence; logits.
    """

    same: Estimate
    first: Estimate | None
    never: Estimate
    divergent: Estimate
    kinds: dict[str, int]
    noise: float | None

    @property
    def damaged(self) -> int:
        """Prompts that diverged where the reference was decided."""
        return sum(count for kind, count in self.kinds.items() if kind != TIED)


def statistics(found: Generation, name: str) -> Statistics | None:
    """Of the candidate of that name; None where the reference was never finite."""
    examples = found.counted
    if not examples:
        return None
    rows = [example.candidates[name] for example in examples]
    diverged = [row.divergence for row in rows if row.divergence is not None]
    noises = [row.noise for row in rows if row.noise is not None]
    return Statistics(
        same=of_items([float(row.same) for row in rows], "tokens"),
        first=of_items([one.step + 1.0 for one in diverged], "tokens") if diverged else None,
        never=of_items([float(row.divergence is None) for row in rows], "share", either=True),
        divergent=of_items(
            [differing(example.reference, row.written) for example, row in _pairs(examples, name)], "share"
        ),
        kinds={kind: count for kind in KINDS if (count := sum(one.kind == kind for one in diverged))},
        noise=float(np.mean(noises)) if noises else None,
    )


def _pairs(examples: Sequence[Example], name: str) -> list[tuple[Example, Candidate]]:
    return [(example, example.candidates[name]) for example in examples]


def differing(one: Continuation, other: Continuation) -> float:
    """The share of positions at which two texts have different tokens; past the end of one of them all differ."""
    longer = max(len(one.tokens), len(other.tokens))
    same = sum(a == b for a, b in zip(one.tokens, other.tokens, strict=False))
    return 1 - same / longer if longer else 0.0


def survival(found: Generation, name: str) -> tuple[float, ...]:
    """The share of prompts whose first n tokens are the reference's, for n from 0 to the most that were written. A text
    that ended without diverging counts as the same from there on."""
    examples = found.counted
    most = max((len(example.reference.tokens) for example in examples), default=0)
    steps = [row.divergence.step if row.divergence else most for _, row in _pairs(examples, name)]
    return tuple(sum(step >= n for step in steps) / len(steps) for n in range(most + 1)) if steps else ()


def worst_first(found: Generation, name: str) -> list[int]:
    """Numbers of the examples: first those that are not finite, then by how clear the preference was that the candidate
    overturned, the clearest first, and last those that never diverge."""

    def order(number: int) -> tuple[int, float, int]:
        candidate = found.examples[number].candidates[name]
        if candidate.divergence is None:
            return 1, -candidate.written.ended.count("not finite"), number
        gap = candidate.divergence.gap
        return 0, -math.inf if gap is None else -gap, number

    return sorted(range(len(found.examples)), key=order)


def to_json(found: Generation) -> bytes:
    return msgspec.json.encode(found)
