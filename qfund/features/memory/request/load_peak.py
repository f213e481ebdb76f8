"""What loading a model takes: what is asked (``LoadPeakRequest``), the ways to load, what was found. No torch.

*Need* is the number that decides whether a load succeeds: the peak of private bytes plus the bytes of live weights that
still alias the mapped file. The common measures mislead: resident bytes count pages of the file that the system takes
back under pressure, and private bytes leave out weights that were never copied but are in use all the same. Which ones
live is known at every moment, from where safetensors gives them until nobody holds them (``benchmarks.load_peak``
checks the need with weights read into private memory).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from qfund.core.environment import Environment
from qfund.core.errors import InvalidSpec
from qfund.core.names import look_up
from qfund.core.request import model_name
from qfund.precisions.precision import CAST, MEANING, STORED, Precision
from qfund.precisions.table import PRECISIONS, precision

DEFAULT_PRECISIONS = ("bf16", "int8")
MAX_RUNS = 20
#: Tokens of the forward after a load, where the model reads so many.
FORWARD_TOKENS = 512
#: Multiples of smaller weights are not exact: what Python and torch allocate on the way, up to a MiB, shows in them.
SMALL = 64 * 1024**2
#: Multiples of weights smaller than this say nothing.
TINY = 4 * 1024**2
NOT_SAMPLED = "not sampled on this system"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to come from a checkpoint's files to a model in a precision.

    Attributes:
        meaning: what it does, for people.
        phrase: how a sentence names it.
        library: whose quantiser it uses; None for torch alone or qfund's.
        applies: whether it makes sense for a precision.
        runs: whether one model is left, which then runs a forward.
    """

    name: str
    meaning: str
    phrase: str
    applies: Callable[[Precision], bool]
    library: str | None = None
    runs: bool = True


def _is_cast(row: Precision) -> bool:
    return row.family in (CAST, MEANING) and row.quantizer is None


def _is_quantized(row: Precision) -> bool:
    return row.quantizer is not None


WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way("direct", "load straight in the precision", "loading it directly", _is_cast),
        Way(
            "cast",
            "load in fp32, then cast in place",
            "casting after loading",
            lambda row: _is_cast(row) and row.dtype != "float32",
        ),
        Way(
            "quantised-direct",
            "load as qfund does: each weight is quantised with its quantiser as it is read, in the precision's base",
            "quantising as qfund does",
            _is_quantized,
        ),
        Way(
            "quantise-after",
            "load in fp32, cast to the precision's base, then quantise with qfund's quantiser",
            "quantising after loading in fp32",
            lambda row: _is_quantized(row) and row.dtype != "float32",  # on fp32 it is what the deepcopy does
        ),
        Way(
            "torchao-direct",
            "transformers' TorchAoConfig: each weight is quantised as it is read",
            "torchao's quantising while reading",
            _is_quantized,
            "torchao",
        ),
        Way(
            "torchao-after",
            "load in fp32, cast to the precision's base, then torchao's quantize_",
            "torchao's quantising after loading",
            _is_quantized,
            "torchao",
        ),
        Way(
            "deepcopy",
            "load in fp32, copy the model, cast or quantise the copy: the lesson's notebook, which keeps both",
            "the notebook's deepcopy",
            lambda row: row.family != STORED,
            runs=False,
        ),
        Way(
            "as-stored",
            "load it as transformers reads it",
            "loading it as transformers reads it",
            lambda row: row.family == STORED,
        ),
    )
}

#: What every way is compared with: fp32 weights loaded as they are.
REFERENCE = ("fp32", "direct")
#: What stands in its place for a checkpoint that is quantised already, and has no weights in fp32: the only way.
AS_STORED = (next(name for name, row in PRECISIONS.items() if row.family == STORED), "as-stored")


@dataclass(frozen=True, slots=True)
class LoadPeakRequest:
    """What to measure.

    Attributes:
        model, revision: as in a comparison's ``Spec``.
        ways: names of ``WAYS``; empty for all that apply.
        runs: how many times each way is measured; the run with the median need is the one that is reported.
    """

    model: str
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    ways: tuple[str, ...] = ()
    revision: str | None = None
    runs: int = 1


def checked(request: LoadPeakRequest) -> LoadPeakRequest:
    """The same request in its one canonical form: names known, in the tables' order, without repeats.

    Raises:
        UnknownName: a precision or way that is not in its table.
        InvalidSpec: a value out of range, or nothing to measure.
    """
    model = model_name(request.model)
    if not request.precisions:
        raise InvalidSpec("No precision is named.", f"Choose among: {', '.join(PRECISIONS)}.")
    if not 1 <= request.runs <= MAX_RUNS:
        raise InvalidSpec(f"runs is {request.runs}.", f"Give a number from 1 to {MAX_RUNS}.")
    stored = [name for name in request.precisions if precision(name).family == STORED]
    if stored and len(set(request.precisions)) > 1:
        raise InvalidSpec(
            f"{stored[0]} is for checkpoints that are quantised already, which no other precision can be made of.",
            f"Choose {stored[0]} alone, or leave it out.",
        )
    for name in request.ways:
        look_up(WAYS, name, "way to load")
    found = replace(
        request,
        model=model,
        precisions=tuple(name for name in PRECISIONS if name in request.precisions),
        ways=tuple(name for name in WAYS if name in request.ways),
        revision=request.revision or None,
    )
    for name in found.precisions:
        if name != REFERENCE[0] and not any(which == name for which, _ in pairs(found)):
            raise InvalidSpec(
                f"No way that is asked for applies to {name}: {', '.join(found.ways)}.",
                f"Choose among: {', '.join(way.name for way in WAYS.values() if way.applies(PRECISIONS[name]))}.",
            )
    return found


def pairs(request: LoadPeakRequest) -> tuple[tuple[str, str], ...]:
    """Precision and way of every measurement, the reference first; what is quantised already is its own."""
    if AS_STORED[0] in request.precisions:
        return (AS_STORED,) if not request.ways or AS_STORED[1] in request.ways else ()
    found = [
        (name, way.name)
        for name in request.precisions
        for way in WAYS.values()
        if way.applies(PRECISIONS[name]) and (not request.ways or way.name in request.ways)
    ]
    return (REFERENCE, *(pair for pair in found if pair != REFERENCE))


@dataclass(frozen=True, slots=True)
class Phase:
    """``start``, ``reading``, ``copying``, ``casting``, ``quantising`` or ``ready``, in seconds since the start.

    ``need`` is at its end (bytes above the baseline); ``kept`` is the part of it that still aliases the mapped file.
    """

    name: str
    start: float
    end: float
    need: int
    kept: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Memory over time, thinned to the highest samples of equal stretches; the peaks are always among them.

    Attributes:
        seconds: since the start.
        need: bytes above the baseline: private, and the weights that alias the file.
        private, rss: bytes above the baseline.
    """

    seconds: tuple[float, ...]
    need: tuple[int, ...]
    private: tuple[int, ...]
    rss: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the system's counters said of one load: bytes above the baseline, which is the process after all imports.

    Attributes:
        need: the peak of private bytes plus live weights that alias a mapped file.
        settled: the need of what stays when all is done.
        private_peak: of resident pages that no file backs.
        rss_peak: of all resident pages: an upper bound that holds reclaimable pages of the checkpoint's files.
        multiples: those four by name, as multiples of ``LoadPeaks.weights_bytes``.
        baseline: private bytes after the imports.
        samples, largest_gap: how many, and the longest time (seconds) between two.
    """

    need: int
    settled: int
    private_peak: int
    rss_peak: int
    multiples: dict[str, float]
    baseline: int
    samples: int
    largest_gap: float
    phases: tuple[Phase, ...]
    curve: Curve


@dataclass(frozen=True, slots=True)
class Inference:
    """What one forward took once the model was loaded: no cache, logits of every position, inputs as
    ``qfund.models.inputs.probe`` makes them. Nothing of it is in ``Sampled``.

    Attributes:
        tokens: random ones that were read; 0 for a model that reads only pictures.
        pictures: that were read.
        batch: examples.
        need: its peak during the forward, above the same baseline and by the same definition as a load's: the model,
            its activations, and what kernels take for themselves. Sampled at every module's end too.
        above_settled: what of it is more than the loaded model's settled need.
        stays: what of that is still there without the output: set up by libraries in the first forward of a process,
            threads and their buffers. The rest are activations.
        multiple: ``need`` as a multiple of ``LoadPeaks.weights_bytes``.
        seconds: it took, the first of its process, weights read from the file included.
        samples, largest_gap: as in ``Sampled``.
        device_peak: most bytes that torch's allocator held on a GPU; None without one.
    """

    tokens: int
    pictures: int
    batch: int
    need: int
    above_settled: int
    stays: int
    multiple: float
    seconds: float
    samples: int
    largest_gap: float
    device_peak: int | None = None

    @property
    def activations(self) -> int:
        """What the forward gave back, its output included."""
        return self.above_settled - self.stays

    @property
    def read(self) -> str:
        """``512 tokens``, ``1 picture``, ``1 picture and 77 tokens``."""
        counts = (("picture", self.pictures), ("token", self.tokens))
        return " and ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts if count)


@dataclass(frozen=True, slots=True)
class WayPeak:
    """One way to load, in a process of its own.

    Attributes:
        seconds: of reading, copying, casting and quantising, with the files in the page cache. Weights that stay in the
            mapped file are read later, when they are first used. Freed memory goes back to the system at once here, so
            that it is not taken for needed; that costs some time.
        footprint_bytes: every stored tensor of the models that stay, counted once.
        transformers_bytes: what ``get_memory_footprint()`` says of them; it does not see into quantised tensors.
        needs: of all runs, in order; everything else is of the run with the median need.
        sampled: None where the system has no such counter; ``note`` says so.
        device_peak: most bytes that torch's allocator held on a GPU during the load; None without one.
        inference: a forward after the load; None where two models are left, where it was not sampled, and where the
            model could not be run: ``note`` says why.
        problem: why there are no numbers.
    """

    precision: str
    way: str
    seconds: float | None = None
    footprint_bytes: int | None = None
    transformers_bytes: int | None = None
    needs: tuple[int, ...] = ()
    sampled: Sampled | None = None
    device_peak: int | None = None
    note: str | None = None
    problem: str | None = None
    inference: Inference | None = None


@dataclass(frozen=True, slots=True)
class LoadPeaks:
    """Every way that was asked for beside the reference.

    Attributes:
        weights_bytes: of all weights in fp32, tied ones once: the unit (W) of all multiples. A checkpoint that is
            quantised already has none: then W is ``stored_bytes``.
        stored_bytes: of the checkpoint's tensors as they lie in its files.
        notes: sentences for people.
    """

    qfund: str
    created: str
    request: LoadPeakRequest
    environment: Environment
    architecture: str
    weights_bytes: int
    stored_bytes: int
    reference: WayPeak
    ways: tuple[WayPeak, ...]
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What W is the size of, as a sentence names it."""
        if self.reference.precision == AS_STORED[0]:
            return "the weights as they are stored"
        return "the fp32 weights"


def to_json(found: LoadPeaks) -> bytes:
    return msgspec.json.encode(found)
