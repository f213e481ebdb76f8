"""A ``Report``: everything one comparison found, as plain data. Tables, figures and exports are functions of it."""

from dataclasses import dataclass, field

import msgspec

from qfund.errors import StoreError
from qfund.metrics import Estimate
from qfund.spec import Spec

#: Raised whenever the meaning or the shape of a stored report changes; another schema is recomputed, never misread.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a report was measured: versions by package, Python, CPU or GPU by name, threads used, and which model.

    ``model_id`` is ``sha256:…`` of the files, or ``stat:…`` for very large ones; ``revision`` is the Hub's commit.
    """

    versions: dict[str, str]
    python: str
    platform: str
    device: str
    cpu: str
    threads: int
    model_id: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """``task`` is a name of ``qfund.tasks.TASKS``; ``parameters`` counts tied weights once."""

    architecture: str
    task: str
    parameters: int
    checkpoint_dtypes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What was measured on.

    ``source`` is ``"text"``, ``"evaluation text"`` or ``"pictures"``; ``notes`` are sentences for people.
    """

    source: str
    sha256: str
    tokens: int
    chunks: int
    context: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DtypeShare:
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One stored tensor. ``kind`` is ``"weight"``, ``"buffer"`` or ``"scale"``; ``shared_with`` names the tensor whose
    storage this one uses (a tied weight): its bytes are counted there, and ``bytes`` is 0 here."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    kind: str
    shared_with: str | None = None


@dataclass(frozen=True, slots=True)
class LeftModule:
    """A module that a quantiser left as it was, and why."""

    name: str
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """|difference| of every logit in bins of equal width in log10: bin i covers 10^(low + i·width) … +width.
    ``zeros`` counts exact equality; values outside the range are in the first or last bin."""

    low: float
    width: float
    counts: tuple[int, ...]
    zeros: int


@dataclass(frozen=True, slots=True)
class PrecisionResult:
    """One precision of one model on one input.

    ``footprint_bytes`` is the measured count of stored tensors (tied ones once), split in ``parts`` (weights, scales,
    buffers); ``predicted_bytes`` comes from shapes alone; ``transformers_bytes`` is ``get_memory_footprint()``.
    ``fidelity`` maps a metric's name to its estimate against the reference (for the reference: its perplexity only).
    """

    precision: str
    footprint_bytes: int
    predicted_bytes: int
    transformers_bytes: int
    parts: dict[str, int]
    dtypes: dict[str, DtypeShare]
    converted: int
    left: int
    fidelity: dict[str, Estimate]
    nonfinite_positions: int
    forward_seconds: float
    tensors: tuple[TensorRow, ...] = ()
    left_modules: tuple[LeftModule, ...] = ()
    differences: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Alternatives:
    """For each shown position the most likely outputs: indices into ``TokenMap.vocabulary`` and their probabilities.

    The likeliest first, equal ones by token id; empty where nothing was compared, or logits were not finite.
    """

    tokens: tuple[tuple[int, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class TokenDisagreement:
    """One candidate at each shown position; None where nothing was compared, or logits were not finite."""

    kl: tuple[float | None, ...]
    mean_abs: tuple[float | None, ...]
    same_top1: tuple[bool | None, ...]
    alternatives: Alternatives


@dataclass(frozen=True, slots=True)
class TokenMap:
    """The first positions of the input, token by token. ``pieces[i]`` is the text of token i, and the distributions at
    position i are those *predicting the next token*, ``pieces[i + 1]`` (for a masked model: the token itself).
    ``chunk_starts`` are the positions where a new chunk begins; ``shown`` of ``total`` positions are kept."""

    pieces: tuple[str, ...]
    chunk_starts: tuple[int, ...]
    predicts_next: bool
    total: int
    vocabulary: tuple[str, ...]
    reference: Alternatives
    candidates: dict[str, TokenDisagreement]


@dataclass(frozen=True, slots=True)
class Report:
    """``reference`` and ``results`` (one a candidate, in the order of the ``Spec``) have the same shape."""

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
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise StoreError("This report cannot be read by this version of qfund.", "Measure it again.") from error
    if found.schema != SCHEMA:
        raise StoreError(f"This report has schema {found.schema}, not {SCHEMA}.", "Measure it again.")
    return found
