"""A ``Report``: everything one comparison found, as plain data. Tables, figures and exports are functions of it."""

from dataclasses import dataclass, field, replace

import msgspec

from qfund.core.environment import Environment
from qfund.core.errors import InvalidInput, StoreError
from qfund.core.estimate import Estimate
from qfund.core.feature import lazily
from qfund.core.metrics.chunk_sums import ChunkSums
from qfund.core.metrics.estimates import Bucket
from qfund.core.metrics.histogram import Histogram
from qfund.core.metrics.renewed import renewed as renewed_fidelity
from qfund.core.model import ModelFacts
from qfund.core.tensors import DtypeShare, LeftModule, TensorRow
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.spec import MAP, Spec
from qfund.inputs.facts import InputFacts

#: Raised whenever the meaning or the shape of a stored report changes; another schema is recomputed, never misread.
SCHEMA = 4


#: Versions of qfund whose intervals knew nothing of what goes on beyond a block.
EARLIER_INTERVALS = frozenset({"0.1.0"})


@dataclass(frozen=True, slots=True)
class Range:
    """How close activations came to the largest number of the dtype that they are held in.

    ``largest`` is the largest finite magnitude that any module gave or was given, ``headroom`` is ``limit / largest``
    (0 once a value was not finite). ``first_nonfinite`` is the innermost module, in the order of execution, where
    values that are not finite first appeared, and ``nonfinite_modules`` how many gave such values. Where a sum or a
    product made them that this module computes by itself, ``before`` names the module that they were given to.
    """

    limit: float
    largest: float
    largest_module: str
    headroom: float
    first_nonfinite: str | None = None
    first_nonfinite_kind: str | None = None
    nonfinite_modules: int = 0
    before: str | None = None
    bad_weights: int = 0


@dataclass(frozen=True, slots=True)
class Saturation:
    """Weights that a format clipped because they lie beyond its largest code: how many, and in which weight first."""

    weights: int
    of: int
    first: str


@dataclass(frozen=True, slots=True)
class LibraryRun:
    """A precision as a library really stores and runs it, beside qfund's own.

    Attributes:
        footprint_bytes: every inner tensor counted once; ``transformers_bytes`` is ``get_memory_footprint()``.
        converted, left: modules; ``left_modules`` says of those that qfund converts and the library did not, why.
        latency: time of a forward as a ratio to the reference's, in turns, the median over ``n`` rounds; its error is
            that of the median (its 95 % interval over 2 · 1.96). None where it could not be run.
        max_abs_diff: largest difference of outputs from those of qfund's own model on the same batch; None where the
            two do not convert the same modules.
        note: what is particular about its way of storing or running.
        problem: why it could not be run, or what is wrong with what it gave; None where all is well.
    """

    library: str
    version: str
    implementation: str
    footprint_bytes: int | None = None
    transformers_bytes: int | None = None
    converted: int = 0
    left: int = 0
    left_modules: tuple[LeftModule, ...] = ()
    latency: Estimate | None = None
    seconds: float | None = None
    max_abs_diff: float | None = None
    note: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class HiddenError:
    """How far the hidden states are from the reference's after one block (a layer of the model), over all positions.

    ``relative_l2`` is ‖candidate − reference‖ / ‖reference‖, ``cosine`` the mean over positions, ``sqnr`` is
    10·log10(Σ reference² / Σ (candidate − reference)²) in dB, None where nothing differs. Positions that are not finite
    in either are left out and counted.
    """

    block: str
    relative_l2: float
    cosine: float
    sqnr: float | None
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class NoiseRun:
    """The reference run a second way, against itself: the difference that means nothing.

    ``name`` is ``"threads"``, ``"batch"``, ``"attention"`` (the floor), or ``"fp64"`` (what the reference itself rounds
    away, shown beside it). ``positions`` were compared.
    """

    name: str
    meaning: str
    positions: int
    fidelity: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The quantised file that a candidate's weights are from.

    Attributes:
        file: as it was given; ``format`` is a row of ``checkpoints.wild.table.FORMATS``, ``label`` says more.
        id: of its content (``sha256:…``; ``stat:…`` of one too large to be hashed).
        bytes: all of it, as it is downloaded; ``bits_of_file``, ``bits_of_parameters`` and ``bits_of_quantized`` are
            bits per weight: all bytes over all parameters, the tensors' over all parameters, and of tensors of codes.
        types: type → how many tensors and bytes.
        inputs: what its kernels round besides, which is not measured here; None for nothing.
        notes: what it says otherwise than the original, in sentences.
    """

    file: str
    format: str
    label: str
    id: str
    bytes: int
    bits_of_file: float
    bits_of_parameters: float
    bits_of_quantized: float | None
    types: dict[str, tuple[int, int]]
    inputs: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """Keys and values of one sequence of ``tokens`` tokens: ``bytes`` as they are stored (codes, scales, and what stays
    as computed), ``computed`` as the model computes them."""

    tokens: int
    bytes: int
    computed: int


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """So many ``chunks`` went through a model at once, so many models side by side in ``lanes``. ``measured``: some
    sizes were tried for these models on this machine, and this is the fastest, or the usual one where none is by 3 %.
    """

    chunks: int
    lanes: int
    measured: bool


@dataclass(frozen=True, slots=True)
class PrecisionResult:
    """One precision of one model on one input.

    ``footprint_bytes`` is the measured count of stored tensors (tied ones once), split in ``parts`` (weights, scales,
    buffers); ``predicted_bytes`` comes from shapes alone (None where nothing foretells them);
    ``transformers_bytes`` is ``get_memory_footprint()``. ``bits_per_weight`` is that of the converted weights, scales
    and zero-points included.
    ``fidelity`` maps a metric's name to its estimate against the reference (for the reference: its perplexity only).
    ``note`` is a sentence about how it runs, where there is something to say.
    ``converted_modules`` and ``left_modules`` name every module with weights of two or more dimensions. ``latency`` is
    the time of a forward as a ratio to the reference's, measured in turns where libraries were asked for.
    ``percentiles`` maps ``"kl"``, ``"kl_reverse"`` and ``"delta_p"`` to their values at ``metrics.PERCENTILES``.
    ``drift`` is the error of the hidden states after every block, in the order of execution.
    ``tokens`` were read for this one, where it left before others; None where as many as for the report.
    ``looks`` is how often it was looked at whether to go on, of ``looks_planned`` until the last token: intervals are
    widened to hold at all of these looks (``request.simultaneous``); 0 where their number of tokens was chosen
    beforehand. ``file`` is set where the weights are a quantised file's; its bytes are then those that the file's
    tensors take. ``cache`` is set where caches were compared.
    """

    precision: str
    footprint_bytes: int
    predicted_bytes: int | None
    transformers_bytes: int
    parts: dict[str, int]
    dtypes: dict[str, DtypeShare]
    converted: int
    left: int
    fidelity: dict[str, Estimate]
    nonfinite_positions: int
    forward_seconds: float
    tensors: tuple[TensorRow, ...] = ()
    converted_modules: tuple[str, ...] = ()
    left_modules: tuple[LeftModule, ...] = ()
    bits_per_weight: float | None = None
    saturation: Saturation | None = None
    range: Range | None = None
    note: str | None = None
    differences: Histogram | None = None
    latency: Estimate | None = None
    libraries: tuple[LibraryRun, ...] = ()
    percentiles: dict[str, tuple[float, ...]] = field(default_factory=dict)
    buckets: tuple[Bucket, ...] = ()
    chunks: ChunkSums | None = None
    drift: tuple[HiddenError, ...] = ()
    tokens: int | None = None
    looks: int = 0
    looks_planned: int = 0
    file: FileFacts | None = None
    cache: CacheFacts | None = None

    @property
    def memory(self) -> int:
        """Bytes of the weights, and of a sequence's keys and values where caches were compared."""
        return self.footprint_bytes + (self.cache.bytes if self.cache else 0)


@dataclass(frozen=True, slots=True)
class Alternatives:
    """For each position of ``TokenMap.detailed`` the most likely outputs: indices into ``TokenMap.vocabulary`` and
    their probabilities.

    The likeliest first, equal ones by token id; empty where nothing was compared, or logits were not finite.
    """

    tokens: tuple[tuple[int, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class TokenDisagreement:
    """One candidate at each shown position, roughly, and at each position of ``TokenMap.detailed`` in full.

    Attributes:
        kl, mean_abs, same_top1: at the detailed positions; None where nothing was compared, or logits were not finite.
        every_kl: KL divergence at every shown position (``codes.magnitudes``): −1 where nothing was compared, NaN where
            logits were not finite.
        every_changed: whether the most likely output changed, at every shown position (``codes.flags``).
    """

    kl: tuple[float | None, ...]
    mean_abs: tuple[float | None, ...]
    same_top1: tuple[bool | None, ...]
    alternatives: Alternatives
    every_kl: bytes
    every_changed: bytes


@dataclass(frozen=True, slots=True)
class TokenMap:
    """The input, token by token. ``pieces[i]`` is the text of token i, and the distributions at position i are those
    *predicting the next token*, ``pieces[i + 1]`` (for a masked model: the token itself). ``chunk_starts`` are the
    positions where a new chunk begins; ``shown`` of ``total`` positions are kept.

    ``detailed`` are the positions, ascending, of which more than a colour is kept: the first ones, and those where
    candidates disagree most with the reference."""

    pieces: tuple[str, ...]
    chunk_starts: tuple[int, ...]
    predicts_next: bool
    total: int
    vocabulary: tuple[str, ...]
    reference: Alternatives
    candidates: dict[str, TokenDisagreement]
    detailed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """``reference`` and ``results`` (one a candidate, in the order of the ``Spec``) have the same shape.

    ``whole`` says why whole models were loaded; None where the model was streamed block by block. ``noise`` is the
    reference against itself, run other ways. ``refused`` are the candidates that this model cannot have or that cannot
    be run, each with the reason.

    ``input`` is what was read. ``planned`` is how many tokens there would have been, where it is fewer; ``partial``
    says that it was stopped there or goes on, otherwise everything was decided. ``costs``: what the time went into.
    ``batch``: how texts went through models in memory, where that depends on the machine.
    """

    schema: int
    qfund: str
    created: str
    spec: Spec
    environment: Environment
    model: ModelFacts
    input: InputFacts
    reference: PrecisionResult
    results: tuple[PrecisionResult, ...]
    tokens: TokenMap | None
    seconds: float
    whole: str | None = None
    noise: tuple[NoiseRun, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    planned: int | None = None
    partial: bool = False
    costs: Costs | None = None
    batch: BatchFacts | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(lazily("qfund.features.compare.document.page:notebook")(self))


def to_json(report: Report) -> bytes:
    """The document that ``qfund compare --json`` prints and the store keeps."""
    return msgspec.json.encode(report)


def from_json(document: bytes) -> Report:
    """The inverse of ``to_json``.

    Raises:
        StoreError: if this version of qfund cannot read the document.
    """
    try:
        found = msgspec.json.decode(document, type=Report)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StoreError("This report cannot be read by this version of qfund.", "Measure it again.") from error
    if found.schema != SCHEMA:
        raise StoreError(f"This report has schema {found.schema}, not {SCHEMA}.", "Measure it again.")
    return renewed(found)


def opened(document: bytes) -> Report:
    """A report that somebody was sent.

    Raises:
        StoreError: it is of another version of qfund.
        InvalidInput: it is none.
    """
    try:
        return from_json(document)
    except StoreError as error:
        if _has_schema(document):
            raise
        raise InvalidInput("This is no report of qfund.", "Give what `qfund compare … --json` printed.") from error


def _has_schema(document: bytes) -> bool:
    """Whether it is a report of some version of qfund, as far as can be told."""
    try:
        found = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "schema" in found


#: A perplexity of as much of the vocabulary's size is no better than chance, which has all of it.
_CHANCE = 0.9


def by_chance(report: Report) -> bool:
    """Whether the reference predicts no better than who thinks every token equally likely."""
    own = report.reference.fidelity.get("perplexity")
    return own is not None and 0 < _CHANCE * report.model.vocabulary <= own.value


def predicts_tokens(report: Report) -> bool:
    """Whether what is compared are predictions of tokens; their map may have been left out."""
    other = any(kind in report.model.task for kind in ("classifier", "encoder"))
    return report.tokens is not None or (MAP in report.spec.without and not other)


def renewed(report: Report) -> Report:
    """A report that a version kept whose intervals were other ones, with those that its sums by chunk give today."""
    if report.qfund not in EARLIER_INTERVALS:
        return report
    reference, kept = report.reference, next((row.chunks for row in report.results if row.chunks), None)
    if kept and "nll_reference" in kept.sums:
        own = replace(kept, sums={"nll_candidate": kept.sums["nll_reference"]})
        reference = replace(reference, fidelity=renewed_fidelity(reference.fidelity, own))
    results = tuple(
        row if row.chunks is None else replace(row, fidelity=renewed_fidelity(row.fidelity, row.chunks))
        for row in report.results
    )
    return replace(report, reference=reference, results=results)


def measured(report: Report) -> tuple[PrecisionResult, ...]:
    """The reference and then the candidates. A candidate that equals the reference is shown once."""
    return (report.reference, *(row for row in report.results if row.precision != report.reference.precision))


def result_of(report: Report, precision: str) -> PrecisionResult:
    return next(row for row in (*report.results, report.reference) if row.precision == precision)
