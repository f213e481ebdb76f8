"""The KV cache in lower precision: what is asked (``KvRequest``) and what was found (``Kv``). No torch."""

from dataclasses import dataclass, replace

from qfund.core.environment import Environment
from qfund.core.errors import InvalidSpec, UnavailablePrecision
from qfund.core.estimate import Estimate
from qfund.core.request import model_name
from qfund.inputs.facts import InputFacts
from qfund.inputs.texts import MAX_TEXT, OneText
from qfund.precisions.caches import KV_CHOICES, MOST_KEPT, canonical_kv, kept, waits
from qfund.precisions.precision import STORED
from qfund.precisions.table import precision

MAX_TOKENS = 65_536
DEFAULT_TOKENS = 4096
DEFAULT_KV = ("bf16", "fp8", "int8", "q8_0", "int4", "q4_0", "int4_kivi")
#: Equal parts of a chunk by which damage is told.
BANDS = 8


@dataclass(frozen=True, slots=True)
class KvRequest(OneText):
    """What to measure.

    Attributes:
        kv: names of ``KV_FORMATS``, one for keys and values alike (``"q8_0"``) or one each (``"q8_0/q4_0"``); with
            what that one keeps (``"q8_0:first4:window64"``) in place of ``first`` and ``window`` for all.
        precision: of the weights, and so of what is computed; its unrounded cache is the reference.
        text, max_tokens, context, revision: as in a comparison.
        first: tokens at the beginning of the context that stay as computed (*attention sinks*).
        window: tokens that stay as computed until there are so many of them, and are rounded together then; 0 rounds
            each as it is written. It is the ``residual_length`` of transformers' ``QuantizedCache``. Keys that are
            grouped by channel need at least one group, and have that where this is 0.
    """

    model: str
    kv: tuple[str, ...] = DEFAULT_KV
    precision: str = "fp32"
    text: str | None = None
    max_tokens: int = DEFAULT_TOKENS
    context: int | None = None
    first: int = 0
    window: int = 0
    revision: str | None = None

    def keeps(self, row: str) -> tuple[int, int]:
        """First tokens of a row of ``kv``, and its window: as its own name says, or else for all."""
        return kept(row)[0] or self.first, waits(row, self.window)


def checked(request: KvRequest) -> KvRequest:
    """The same in its one canonical form.

    Raises:
        UnknownName: a precision or a KV precision that there is not.
        UnavailablePrecision: the form in which a checkpoint is stored.
        InvalidSpec: no candidate, or a number out of range.
    """
    if precision(request.precision).family == STORED:
        raise UnavailablePrecision(
            "A checkpoint that is quantised already computes as it likes, which is no known reference.",
            "Name the original checkpoint and a precision of `qfund ls precisions`.",
        )
    rows = tuple(dict.fromkeys(map(canonical_kv, request.kv)))
    if not rows:
        raise InvalidSpec("No KV precision is named.", f"Choose among: {', '.join(KV_CHOICES)}.")
    if not 2 <= request.max_tokens <= MAX_TOKENS:
        raise InvalidSpec(f"max_tokens is {request.max_tokens:,}.", f"Give a number from 2 to {MAX_TOKENS:,}.")
    if request.text is not None and len(request.text) > MAX_TEXT:
        raise InvalidSpec(f"The text has {len(request.text):,} characters.", f"Give at most {MAX_TEXT:,}.")
    for name in ("first", "window"):
        value = getattr(request, name)
        if not 0 <= value <= MOST_KEPT:
            raise InvalidSpec(f"{name} is {value:,}.", f"Give a number of tokens from 0 to {MOST_KEPT:,}.")
    return replace(request, model=model_name(request.model), kv=rows, revision=request.revision or None)


@dataclass(frozen=True, slots=True)
class Band:
    """Positions ``start`` to ``end`` (without it) of every chunk: mean KL in nat over ``count`` of them."""

    start: int
    end: int
    kl: float
    count: int


@dataclass(frozen=True, slots=True)
class KvRow:
    """One way to cache.

    Attributes:
        kv: as it was asked for.
        bytes: of one sequence of ``Kv.tokens`` tokens: codes, scales, and what stays as computed.
        kl: mean KL(unrounded ‖ rounded) in nat; None where nothing was finite, or of a row that was refused.
        top1: share of positions whose likeliest token stays.
        bands: KL by depth of context.
        nonfinite: positions without finite logits.
        problem: why the cache cannot be rounded so.
        recalled: share of the tokens of ``Kv.needles`` that come back.
    """

    kv: str
    bytes: int = 0
    kl: Estimate | None = None
    top1: Estimate | None = None
    bands: tuple[Band, ...] = ()
    nonfinite: int = 0
    problem: str | None = None
    recalled: float | None = None


@dataclass(frozen=True, slots=True)
class Kv:
    """What was found. ``reference_bytes`` of one sequence of ``tokens`` tokens, as computed.

    ``needles`` tokens of passages were asked for again at the end of a context, and ``recalled`` is the share of them
    that comes back with the cache as computed (``measure.needle``); None of results of before, and of short texts.
    """

    request: KvRequest
    qfund: str
    created: str
    environment: Environment
    architecture: str
    input: InputFacts
    tokens: int
    reference_bytes: int
    rows: tuple[KvRow, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    needles: int = 0
    recalled: float | None = None
