"""Speed: what is asked (``SpeedRequest``) and what was found (``Speed``). No torch."""

from dataclasses import dataclass, field, replace

from qfund.checkpoints import catalog
from qfund.checkpoints.wild import locating
from qfund.core.environment import Environment
from qfund.core.errors import InvalidSpec, UnavailablePrecision
from qfund.core.estimate import Spread
from qfund.core.names import look_up
from qfund.core.request import LATER, model_name
from qfund.precisions.backends import BACKENDS
from qfund.precisions.files import file_names
from qfund.precisions.precision import STORED
from qfund.precisions.request import canonical
from qfund.precisions.table import PRECISIONS

DEFAULT_PRECISIONS = ("bf16", "fp16", "int8", "int4", "nf4")
DEFAULT_DEPTHS, DEFAULT_BATCHES = (64, 192), (1, 4)
DEFAULT_NEW, DEFAULT_ROUNDS = 16, 6
MAX_BATCH, MAX_DEPTH, MAX_NEW, MAX_ROUNDS = 64, 65_536, 1024, 50
MOST_POINTS = 4
#: What runs a format: a plain cast needs nothing besides torch; qfund's own modules decode weights as they are used.
TORCH, OWN = "torch", "qfund"
#: What runs GGUF files; and what takes minutes to make, so that it is timed where it is named.
LLAMA, COMPILED = "llama.cpp", "torch.compile"
#: name → what it is.
RUNNERS = {
    TORCH: "plain casts, as torch runs them",
    OWN: "qfund's own modules, which decode weights at every use: bytes of a file, and no kernel",
    **{name: backend.meaning for name, backend in BACKENDS.items()},
    LLAMA: "GGUF files (--file), as llama.cpp runs them here, through llama-cpp-python",
    COMPILED: "steps of casts and of qfund's modules, compiled: minutes of compiling, so only where it is named",
}


@dataclass(frozen=True, slots=True)
class SpeedRequest:
    """What to time.

    Attributes:
        model: as everywhere; or a GGUF file alone, which llama.cpp runs, and others of ``files`` beside it.
        precisions, reference: names of the table.
        backends: names of ``RUNNERS``; none asks for all that run here.
        depths: tokens of the prompts, and so of the context at which writing begins.
        batches: sequences at once.
        new_tokens: that are written at each depth, greedily, with a cache.
        rounds: turns of every model, besides one that warms up.
        also: kinds of modules that quantisers convert too, as in a comparison.
        files: GGUF files of the model, paths or ``owner/name:file`` of the Hub, timed beside.
    """

    model: str = catalog.EXAMPLE
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    reference: str = "fp32"
    backends: tuple[str, ...] = ()
    depths: tuple[int, ...] = DEFAULT_DEPTHS
    batches: tuple[int, ...] = DEFAULT_BATCHES
    new_tokens: int = DEFAULT_NEW
    rounds: int = DEFAULT_ROUNDS
    revision: str | None = None
    also: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), metadata=LATER)

    @property
    def alone(self) -> bool:
        """Whether there are files, and no original that they were made from."""
        return self.model.strip().endswith(".gguf")


def identity(request: SpeedRequest) -> str:
    """What identifies the model's content and where it runs: of files alone, theirs."""
    if not request.alone:
        return catalog.identity(request)
    return f"{locating.identity(checked(request).files)} on {catalog.device()}"


def checked(request: SpeedRequest) -> SpeedRequest:
    """The same in its one canonical form.

    Raises:
        UnknownName: a precision or a backend that there is not.
        UnavailablePrecision: the form in which a checkpoint is stored.
        InvalidSpec: a number out of range, or none.
    """
    for name in (request.reference, *request.precisions):
        if name in PRECISIONS and PRECISIONS[name].family == STORED:
            raise UnavailablePrecision(
                "A checkpoint that is quantised already is not timed beside other precisions.",
                "Name the original checkpoint and precisions of `qfund ls precisions`.",
            )
    for name in request.backends:
        look_up(RUNNERS, name, "backend")
    for what, values, most in (("depth", request.depths, MAX_DEPTH), ("batch", request.batches, MAX_BATCH)):
        if not 1 <= len(set(values)) <= MOST_POINTS:
            raise InvalidSpec(f"{len(values)} values of {what} are given.", f"Give 1 to {MOST_POINTS}.")
        _within(what, values, most)
    _within("new_tokens", (request.new_tokens,), MAX_NEW)
    _within("rounds", (request.rounds,), MAX_ROUNDS)
    file_names(request.files)  # raises what is wrong with them
    found = _of_files(request) if request.alone else _canonical(request)
    return replace(
        found,
        backends=tuple(name for name in RUNNERS if name in request.backends),
        depths=tuple(sorted(set(request.depths))),
        batches=tuple(sorted(set(request.batches))),
        precisions=tuple(name for name in found.precisions if name != found.reference),
    )


def _canonical(request: SpeedRequest) -> SpeedRequest:
    """With names known and in order. The reference alone can be timed too."""
    if not request.precisions:
        return replace(canonical(replace(request, precisions=(request.reference,))), precisions=())
    return canonical(request)


def _of_files(request: SpeedRequest) -> SpeedRequest:
    """With the file that stands for the model as the reference of the others."""
    model = model_name(request.model)
    files = tuple(dict.fromkeys((model, *request.files)))
    reference = next(iter(file_names(files)))
    changed = {
        "precisions": request.precisions not in ((), DEFAULT_PRECISIONS),
        "reference": request.reference not in ("fp32", reference),
        "backend": not set(request.backends) <= {LLAMA},
        "also": bool(request.also),
        "revision": request.revision is not None,
    }
    if wrong := [name for name, is_wrong in changed.items() if is_wrong]:
        raise InvalidSpec(
            f"{model} is a GGUF file: llama.cpp alone runs it, so {' and '.join(wrong)} mean nothing.",
            "Leave them out; or name the checkpoint that it was made from, and this with --file.",
        )
    return replace(request, model=model, reference=reference, precisions=(), files=files)


def _within(what: str, values: tuple[int, ...], most: int) -> None:
    for value in values:
        if not 1 <= value <= most:
            raise InvalidSpec(f"{what} is {value:,}.", f"Give a whole number from 1 to {most:,}.")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What this machine does at most, measured before anything else.

    Attributes:
        bandwidth: bytes a second that are read from main memory, by one sum over ``bandwidth_bytes`` of them.
        peaks: dtype (torch's name) → floating-point operations a second of a large matrix product; a multiplication and
            an addition are two.
        load: processes that wanted a core, a minute's mean, and ``cores`` that there are; None where it is not told.
    """

    bandwidth: float
    bandwidth_bytes: int
    peaks: dict[str, float]
    load: float | None
    cores: int


@dataclass(frozen=True, slots=True)
class Point:
    """One model with ``batch`` sequences after a prompt of ``depth`` tokens each. Medians over rounds.

    Attributes:
        prefill, decode: tokens a second, of all sequences together.
        first: seconds until the first token is known.
        prefill_ratio, decode_ratio: to the reference's, within rounds: 2 is twice as fast.
        cache_bytes: of keys and values after the prompt.
        flops: of the prompt, in the reference.
        joules: per written token; None where the machine has no counter.
    """

    batch: int
    depth: int
    prefill: Spread
    first: Spread
    decode: Spread
    prefill_ratio: Spread
    decode_ratio: Spread
    rounds: int
    cache_bytes: int
    flops: int
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A precision as one backend runs it.

    Attributes:
        backend: name of ``RUNNERS``; ``call`` is what a user of that library writes.
        load_seconds: from the files to a model that is ready.
        stored_bytes: of weights, scales and buffers; ``read_bytes`` of those that each step reads.
        compile_seconds: that compiling took, before anything was timed; None where nothing was compiled.
        decoding_seconds: that decoding every weight once takes, with nothing multiplied; None of plain casts.
        problem: what is wrong with its weights.
    """

    precision: str
    backend: str
    load_seconds: float
    stored_bytes: int
    read_bytes: int
    points: tuple[Point, ...]
    decoding_seconds: float | None = None
    call: str = ""
    note: str | None = None
    problem: str | None = None
    compile_seconds: float | None = None

    def at(self, batch: int, depth: int) -> Point:
        return next(point for point in self.points if (point.batch, point.depth) == (batch, depth))


@dataclass(frozen=True, slots=True)
class Speed:
    """What was found. ``runs`` begin with the reference; ``refused``: what could not be run → why and what to do;
    ``energy`` says what counted it, or why nothing did. While models were timed, threads ``waited`` for a core such a
    share of the time that they wanted one, and ``stolen`` of all cores' time went to other machines on the same host;
    None where nothing told."""

    request: SpeedRequest
    qfund: str
    created: str
    environment: Environment
    architecture: str
    bounds: Bounds
    runs: tuple[Run, ...]
    refused: dict[str, str]
    energy: str
    seconds: float
    notes: tuple[str, ...] = ()
    waited: float | None = None
    stolen: float | None = None

    @property
    def reference(self) -> Run:
        return self.runs[0]

    @property
    def place(self) -> tuple[int, int]:
        """Batch and depth that matter most: the fewest sequences, after the longest prompt that was timed with them."""
        return min(((point.batch, point.depth) for point in self.reference.points), key=lambda at: (at[0], -at[1]))
