"""Whether a model fits: what is asked (``FitsRequest``) and what is answered (``Fits``)."""

import math
from dataclasses import dataclass, field, replace

import msgspec

from qfund.core.errors import InvalidSpec
from qfund.core.names import look_up
from qfund.core.request import LATER, model_name
from qfund.features.memory.request.budgets import checked_budget
from qfund.features.memory.request.kv_cache import CacheLayers, State
from qfund.precisions.caches import canonical_kv
from qfund.precisions.files import file_names, is_file, row_of
from qfund.precisions.precision import Precision
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS, precision

DEFAULT_CONTEXT = 4096
MAX_CONTEXT = 2**32
MAX_BATCH = 65_536

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
        on_cpu: the activations on a CPU, where its torch has no fused kernel for an attention that a GPU has one for;
            empty where they are the same.
    """

    cache: tuple[CacheLayers, ...]
    states: tuple[State, ...]
    activations: tuple[Activations, ...]
    trained: int | None
    checked: bool
    on_cpu: tuple[Activations, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """The exact footprint of one precision.

    Attributes:
        parts: bytes of weights, scales and buffers.
        dequantised: bytes of the largest quantised weight in the dtype that the precision computes in: it is there
            once, beside the codes, while it is multiplied. 0 where nothing is dequantised.
        stays: what of the matrices is not converted, where that is more than a few per cent: the predicate of a
            sentence.
        bits: a weight, of a quantised file; None of a precision, which knows them.
    """

    precision: str
    bytes: int
    parts: dict[str, int]
    dequantised: int = 0
    stays: str = ""
    bits: float | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What the model is to do, and with what.

    Attributes:
        budget: bytes.
        context: tokens of each sequence, prompt and answer together; an encoder-decoder reads and writes as many.
        batch: sequences at once.
        kv: name of ``KV_FORMATS``, or two as ``"q8_0/q4_0"`` for keys and values apart; None for the dtype that each
            precision computes in.
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
    """What is asked. ``model``, ``revision``, ``also`` and ``files`` as in a comparison's ``Spec``; ``model`` may be a
    GGUF file too, which then stands alone, as far as its head tells what the model caches."""

    model: str
    workload: Workload
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    also: tuple[str, ...] = ()
    revision: str | None = None
    files: tuple[str, ...] = field(default=(), metadata=LATER)


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


#: torch's name of what runtimes that keep a file's codes compute and cache in.
KEPT = "float16"


def row_in(name: str, bits: float | None = None) -> Precision:
    """A precision, or what stands for a quantised file of so many bits a weight that a runtime keeps as it is."""
    row = row_of(name)
    return replace(row, dtype=KEPT, bits=0, scale_bits=bits or 32.0) if is_file(name) else row


def to_json(found: Fits) -> bytes:
    return msgspec.json.encode(found)


def checked(request: FitsRequest) -> FitsRequest:
    """The same request in its one canonical form: names known, in the table's order, without repeats.

    Raises:
        UnknownName: a precision, KV format or kind of module that is not in its table.
        InvalidSpec: a value out of range.
    """
    model = model_name(request.model)
    file_names(request.files)
    if not request.precisions and not request.files:
        raise InvalidSpec("No precision is named.", f"Choose among: {', '.join(PRECISIONS)}.")
    for name in request.precisions:
        precision(name)
    for name in request.also:
        look_up(ALSO, name, "kind of module")
    return replace(
        request,
        model=model,
        workload=checked_workload(request.workload),
        precisions=tuple(name for name in PRECISIONS if name in request.precisions),
        also=tuple(name for name in ALSO if name in request.also),
        revision=request.revision or None,
    )


def checked_workload(workload: Workload) -> Workload:
    """The same in its one canonical form.

    Raises:
        UnknownName: an unknown KV format or runtime.
        InvalidSpec: a number out of range.
    """
    if workload.kv is not None:
        workload = replace(workload, kv=canonical_kv(workload.kv))
    look_up(RUNTIMES, workload.runtime, "device")
    checked_budget(workload.budget)
    for name, value, largest in (("context", workload.context, MAX_CONTEXT), ("batch", workload.batch, MAX_BATCH)):
        if not 1 <= value <= largest:
            raise InvalidSpec(f"{name} is {value}.", f"Give a whole number from 1 to {largest:,}.")
    return workload
