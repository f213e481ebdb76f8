"""Whether a model fits: what is asked (``FitsRequest``), the arithmetic, what was found (``Fits``). No torch.

Weights come exact from ``qfund.models.skeleton``; the cache is exact from the config; activations and the runtime are
estimates and say so. ``rows`` and ``choose`` are pure, so that a page computes anew when somebody moves a slider: they
need the ``Shape`` and the ``Weights`` that a job found once.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from qfund.core.errors import InvalidSpec
from qfund.core.names import look_up
from qfund.core.units import bytes_text
from qfund.features.memory.request.budgets import checked_budget
from qfund.features.memory.request.kv_cache import (
    KV_CHOICES,
    KV_FORMATS,
    KV_OF,
    SIZES,
    CacheLayers,
    Config,
    State,
    kv_bytes,
    state_bytes,
)
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS, precision

EXACT, ESTIMATE = "exact", "estimate"

DEFAULT_CONTEXT = 4096

MAX_CONTEXT = 2**32

MAX_BATCH = 65_536

#: dB of signal to quantisation noise (``Precision.sqnr_floor``) under which a choice comes with a warning.
POOR = 15.0

#: What is looked at unless precisions are named: casts and weight-only formats, on the base that people serve on.
DEFAULT_PRECISIONS = ("fp32", "bf16", "fp16", "int8_bf16", "int6_bf16", "int5_bf16", "int4_bf16", "nf4_bf16")


@dataclass(frozen=True, slots=True)
class Runtime:
    """``bytes`` that a process takes on a device before it holds anything of a model."""

    name: str
    bytes: int
    meaning: str


RUNTIMES: dict[str, Runtime] = {
    row.name: row
    for row in (
        # Measured here (torch 2.13 CPU, transformers 5.23, one small forward): 253 MiB private, 366 MiB resident.
        Runtime("cpu", 384 * 1024**2, "Python, torch and transformers with their libraries, after a first forward"),
        # Context and lazily loaded kernels: 300 MiB (pytorch/pytorch 107667) to 540 MiB (81257), by GPU and driver;
        # cuBLAS workspaces: 8 MiB, 32 MiB on Hopper (torch's notes on CUDA). Not counted: what the caching allocator
        # holds without using it.
        Runtime("cuda", 600 * 1024**2, "CUDA context, kernels as they are loaded, cuBLAS workspace"),
    )
}


@dataclass(frozen=True, slots=True)
class Phase:
    """A moment of the forward: bytes of activations alive at once, as a function of batch and tokens.

    ``batch · (per_token · tokens + per_square · tokens²) + shared_square · tokens²``. Squares are those of masks,
    position biases and, where attention is not a fused kernel, scores; some of them serve the whole batch.
    """

    per_token: float
    per_square: float = 0.0
    shared_square: float = 0.0

    def bytes(self, batch: int, context: int) -> float:
        return batch * (self.per_token * context + self.per_square * context**2) + self.shared_square * context**2

    def times(self, factor: float) -> "Phase":
        return Phase(factor * self.per_token, factor * self.per_square, factor * self.shared_square)


@dataclass(frozen=True, slots=True)
class Activations:
    """Most bytes of activations alive at once in the forward that reads a prompt, without weights and cache.

    Attributes:
        dtype: that the model computes in.
        last: phases of which the largest counts, where logits of the last position are kept, as generation does.
        all: the same where logits of every position are kept, as scoring a text does.
        source: ``"traced"`` (transformers' own forward on the meta device, with a fused attention unless the model has
            none) or ``"formula"``.
    """

    dtype: str
    last: tuple[Phase, ...]
    all: tuple[Phase, ...]
    source: str

    def bytes(self, batch: int, context: int, all_logits: bool = False) -> int:
        phases = self.last + self.all if all_logits else self.last
        return math.ceil(max(phase.bytes(batch, context) for phase in phases))

    def times(self, factor: float, dtype: str) -> "Activations":
        """In a dtype with so many times the bytes."""
        last, every = (tuple(phase.times(factor) for phase in phases) for phases in (self.last, self.all))
        return replace(self, dtype=dtype, last=last, all=every)


@dataclass(frozen=True, slots=True)
class Shape:
    """All that the arithmetic needs of a model besides its weights.

    Attributes:
        cache, states: empty for a model that caches nothing.
        activations: one a dtype that precisions compute in.
        trained: longest context that it was trained for (or has positions for); None where the config says nothing.
        checked: whether the cache was compared with the one that transformers itself makes (on the meta device).
    """

    cache: tuple[CacheLayers, ...]
    states: tuple[State, ...]
    activations: tuple[Activations, ...]
    trained: int | None
    checked: bool


@dataclass(frozen=True, slots=True)
class Weights:
    """The exact footprint of one precision.

    Attributes:
        parts: bytes of weights, scales and buffers.
        dequantised: bytes of the largest quantised weight in the dtype that the precision computes in: it is there
            once, beside the codes, while it is multiplied. 0 where nothing is dequantised.
    """

    precision: str
    bytes: int
    parts: dict[str, int]
    dequantised: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """What the model is to do, and with what.

    Attributes:
        budget: bytes.
        context: tokens of each sequence, prompt and answer together; an encoder-decoder reads and writes as many.
        batch: sequences at once.
        kv: name of ``KV_FORMATS``; None for the dtype that each precision computes in.
        runtime: name of ``RUNTIMES``.
        all_logits: keep logits of every position, as scoring a text does; generation keeps the last position's.
    """

    budget: int
    context: int = DEFAULT_CONTEXT
    batch: int = 1
    kv: str | None = None
    runtime: str = "cuda"
    all_logits: bool = False


@dataclass(frozen=True, slots=True)
class FitsRequest:
    """What is asked. ``model``, ``revision`` and ``also`` as in ``qfund.features.compare.request.spec.Spec``."""

    model: str
    workload: Workload
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    also: tuple[str, ...] = ()
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """``how`` is ``"exact"`` or ``"estimate"``."""

    bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class Row:
    """One precision under a workload. ``total`` is an estimate, because two of its parts are.

    Attributes:
        weights, kv_cache, state, activations, runtime: what it is made of.
        headroom: budget less total; negative where it does not fit.
        longest_context: the largest that fits with this batch; 0 where none does.
    """

    precision: str
    weights: Amount
    kv_cache: Amount
    state: Amount
    activations: Amount
    runtime: Amount
    total: Amount
    fits: bool
    headroom: int
    longest_context: int


#: The parts of a row in the order in which they are stacked, and what people call them.
PARTS = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "state": "state",
    "activations": "activations",
    "runtime": "runtime",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The least lossy precision that fits, and why; ``precision`` is None where none fits."""

    precision: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Fits:
    """What one model takes in several precisions under one workload.

    Attributes:
        stored: dtype → parameters in the checkpoint, as it lies on disk: choosing more bits than those is pointless.
        refused: precision → why there is no row for it.
        notes: sentences for people; ``warnings`` are those that change what the numbers mean.
    """

    qfund: str
    request: FitsRequest
    architecture: str
    task: str
    shape: Shape
    weights: tuple[Weights, ...]
    stored: dict[str, int]
    rows: tuple[Row, ...]
    choice: Choice
    refused: dict[str, str]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def to_json(found: Fits) -> bytes:
    return msgspec.json.encode(found)


# What is asked.


def checked(request: FitsRequest) -> FitsRequest:
    """The same request in its one canonical form: names known, in the table's order, without repeats.

    Raises:
        UnknownName: a precision, KV format or kind of module that is not in its table.
        InvalidSpec: a value out of range.
    """
    if not request.model.strip() or len(request.model) > 1024 or "\0" in request.model:
        raise InvalidSpec("No model is named.", "Name a catalog model, a folder or a Hub id (owner/name).")
    if not request.precisions:
        raise InvalidSpec("No precision is named.", f"Choose among: {', '.join(PRECISIONS)}.")
    for name in request.precisions:
        if precision(name).family == STORED:
            raise InvalidSpec(
                f"The footprint of {name!r} cannot be foretold: its library decides it.", "Choose another precision."
            )
    for name in request.also:
        look_up(ALSO, name, "kind of module")
    return replace(
        request,
        model=request.model.strip(),
        workload=checked_workload(request.workload),
        precisions=tuple(name for name in PRECISIONS if name in request.precisions),
        also=tuple(name for name in ALSO if name in request.also),
        revision=request.revision or None,
    )


def checked_workload(workload: Workload) -> Workload:
    """The workload as it is.

    Raises:
        UnknownName: an unknown KV format or runtime.
        InvalidSpec: a number out of range.
    """
    if workload.kv is not None:
        look_up({name: KV_FORMATS[name] for name in KV_CHOICES}, workload.kv, "KV precision")
    look_up(RUNTIMES, workload.runtime, "device")
    checked_budget(workload.budget)
    for name, value, largest in (("context", workload.context, MAX_CONTEXT), ("batch", workload.batch, MAX_BATCH)):
        if not 1 <= value <= largest:
            raise InvalidSpec(f"{name} is {value}.", f"Give a whole number from 1 to {largest:,}.")
    return workload


# The arithmetic.


def rows(shape: Shape, weights: Iterable[Weights], workload: Workload) -> tuple[Row, ...]:
    """One row a precision, pure arithmetic: at most milliseconds."""
    return tuple(_row(shape, one, workload) for one in weights)


def _row(shape: Shape, weights: Weights, workload: Workload) -> Row:
    parts = _parts(shape, weights, workload, workload.context)
    total = sum(amount.bytes for amount in parts.values())
    return Row(
        precision=weights.precision,
        **parts,
        total=Amount(total, ESTIMATE),
        fits=total <= workload.budget,
        headroom=workload.budget - total,
        longest_context=longest_context(shape, weights, workload),
    )


def total_bytes(shape: Shape, weights: Weights, workload: Workload, context: int) -> int:
    """Everything together, for a context other than the workload's; it never falls as the context grows."""
    return sum(amount.bytes for amount in _parts(shape, weights, workload, context).values())


def _parts(shape: Shape, weights: Weights, workload: Workload, context: int) -> dict[str, Amount]:
    dtype = PRECISIONS[weights.precision].dtype
    batch = workload.batch
    alive = activations_of(shape, dtype).bytes(batch, context, workload.all_logits)
    alive += behind_windows(shape, batch, context, dtype) + weights.dequantised
    return {
        "weights": Amount(weights.bytes, EXACT),
        "kv_cache": Amount(kv_bytes(shape.cache, batch, context, KV_FORMATS[workload.kv or KV_OF[dtype]]), EXACT),
        "state": Amount(state_bytes(shape.states, batch, dtype), EXACT),
        "activations": Amount(alive, ESTIMATE),
        "runtime": Amount(RUNTIMES[workload.runtime].bytes, ESTIMATE),
    }


def behind_windows(shape: Shape, batch: int, context: int, dtype: str) -> int:
    """Keys and values of a prompt that sliding windows leave behind: transformers holds them until the next token."""
    kv = KV_FORMATS[KV_OF[dtype]]
    whole = [replace(row, window=None) for row in shape.cache]
    return kv_bytes(whole, batch, context, kv) - kv_bytes(shape.cache, batch, context, kv)


def activations_of(shape: Shape, dtype: str) -> Activations:
    """Those of a dtype; fp16 has bf16's, and fp64 twice those of fp32."""
    found = {one.dtype: one for one in shape.activations}
    if dtype in found:
        return found[dtype]
    return found["bfloat16"].times(1, dtype) if dtype == "float16" else found["float32"].times(2, dtype)


def longest_context(shape: Shape, weights: Weights, workload: Workload) -> int:
    """The largest context that fits, 0 where none does; at most ``MAX_CONTEXT``. Exact: one token more does not fit."""
    low, high = 0, MAX_CONTEXT + 1  # low fits (or is 0), high does not
    while high - low > 1:
        middle = (low + high) // 2
        if total_bytes(shape, weights, workload, middle) <= workload.budget:
            low = middle
        else:
            high = middle
    return low


def beyond(rows: Iterable[Row], shape: Shape) -> str | None:
    """Said where memory would allow longer contexts than the model was made for."""
    if shape.trained is None or all(row.longest_context <= shape.trained for row in rows):
        return None
    return f"Longest contexts are what memory allows; this model was made for {shape.trained:,} positions."


def formula(config: Mapping[str, Any], dtype: str) -> Activations:
    """A guess at the activations for a model whose forward cannot be traced: the residual stream and what was added to
    it (5 widths), one gated multilayer perceptron (3 of its widths), queries, keys and values (4 widths); and three
    score matrices a head where attention is not fused. Within a factor of two of traces of usual decoders."""
    fields = Config(config, str(config.get("model_type", "model")))
    hidden = fields.need("hidden_size")
    inner = fields.find("intermediate_size", "ffn_dim", "encoder_ffn_dim", "d_ff") or 4 * hidden
    fused = config.get("attention", "sdpa") != "eager"
    heads = 0 if fused else fields.need("num_attention_heads")
    size = SIZES[dtype]
    blocks = Phase(float(size * (9 * hidden + 3 * inner)), float(3 * heads * size))
    head = Phase(float(size * (3 * hidden + int(config.get("vocab_size") or 0))))
    return Activations(dtype, (blocks,), (head,), "formula")


# The precision to choose.

_STORED_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}

_STORED_NAME = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}


def ranked(names: Iterable[str], stored: Mapping[str, int]) -> list[str]:
    """The least lossy first: more bits per weight, scales included; then weights alone before weights and activations;
    then the checkpoint's own dtype; then bf16 before fp16, which may overflow; then the format with less noise.

    Precisions with more bits than the checkpoint stores come last, the smallest of them first: they hold the same
    values in more bytes.
    """
    own = max(stored, key=lambda dtype: stored[dtype], default="F32")
    limit = _STORED_BITS.get(own, 32)

    def key(name: str) -> tuple[float, ...]:
        row = PRECISIONS[name]
        beyond = row.quantizer is None and row.effective_bits > limit
        bits = row.effective_bits if beyond else -row.effective_bits
        order = (row.product is not None, name != _STORED_NAME.get(own), row.dtype == "float16", -row.sqnr_floor)
        return (beyond, bits, *map(float, order), -SIZES[row.dtype])

    return sorted(names, key=key)


def choose(found: Sequence[Row], workload: Workload, stored: Mapping[str, int]) -> Choice:
    """The least lossy precision that fits, in a sentence."""
    by_name = {row.precision: row for row in found}
    asked = f"{workload.context:,} tokens × {workload.batch:,} in {bytes_text(workload.budget)}"
    if not found:
        return Choice(None, "No precision that was asked for could be sized.")
    fitting = [name for name in ranked(by_name, stored) if by_name[name].fits]
    if not fitting:
        least = min(found, key=lambda row: row.total.bytes)
        shorter = max(found, key=lambda row: row.longest_context)
        rest = (
            f"a context of {shorter.longest_context:,} would fit in {PRECISIONS[shorter.precision].label}"
            if shorter.longest_context
            else "not even one token of context would fit"
        )
        return Choice(
            None,
            f"Nothing fits for {asked}: {PRECISIONS[least.precision].label} is the smallest and lacks "
            f"{bytes_text(-least.headroom)}; {rest}.",
        )
    name = fitting[0]
    row = PRECISIONS[name]
    sentence = f"Choose {row.label} ({name}): the least lossy that fits for {asked}, with {_spare(by_name[name])}."
    if row.sqnr_floor < POOR:
        sentence += f" It is coarse: measure what it costs with qfund compare --precision {name}."
    return Choice(name, sentence + _why_not_more(row, by_name, stored))


def _spare(row: Row) -> str:
    return f"{bytes_text(row.headroom)} to spare"


def _why_not_more(row: Precision, by_name: Mapping[str, Row], stored: Mapping[str, int]) -> str:
    """Said where a precision with more bits fits too, and only repeats what the checkpoint stores."""
    bits = row.effective_bits
    more = [name for name, other in by_name.items() if other.fits and PRECISIONS[name].effective_bits > bits]
    if not more:
        return ""
    own = max(stored, key=lambda dtype: stored[dtype], default="F32")
    labels = " and ".join(PRECISIONS[name].label for name in more)
    return f" {labels} would fit too, but the checkpoint stores {own}: the same values in more bytes."


def warnings(shape: Shape, workload: Workload) -> tuple[str, ...]:
    """Sentences about a workload that change what its numbers mean."""
    found = []
    if shape.trained is not None and workload.context > shape.trained:
        found.append(
            f"A context of {workload.context:,} is beyond the {shape.trained:,} positions that this model was made for."
        )
    if workload.kv in ("fp8", "int8", "int4") and (shape.states or any(row.window for row in shape.cache)):
        found.append(
            f"transformers itself quantises caches of models with full attention only; {workload.kv} is what the codes "
            "of this one would take in another runtime."
        )
    return tuple(found)


def notes(shape: Shape) -> tuple[str, ...]:
    """Sentences that say how the numbers came about."""
    found = []
    if not shape.cache and not shape.states:
        found.append("This model generates nothing, so it caches nothing.")
    elif not shape.checked:
        found.append("The cache is computed from the config alone: transformers' own could not be built to compare.")
    if any(row.source == "formula" for row in shape.activations):
        found.append("The forward could not be traced; activations are from a general formula (a factor of two).")
    if any(row.window for row in shape.cache):
        found.append(
            "Sliding windows are capped. A prompt that is read in one go is held in full until the next token; that is "
            "among the activations."
        )
    return tuple(found)
