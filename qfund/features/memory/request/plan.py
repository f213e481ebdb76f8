"""What a checkpoint would take in every precision: the question, both answers, and the first of them. No torch.

Two steps. *At once*, ``headers``: what the files say of their tensors. *Exact*, ``measure.plan``: the model
built without weights.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from qfund.checkpoints import catalog, checkpoint, recognition, ties
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.headers import StoredTensor
from qfund.core.errors import InvalidSpec
from qfund.core.names import look_up
from qfund.core.request import model_name
from qfund.core.tensors import DtypeShare
from qfund.precisions.precision import CAST, STORED
from qfund.precisions.request import ALSO
from qfund.precisions.table import PRECISIONS, precision, unavailable

#: The parts of a footprint; they sum to it. Weights of every kind, then what is none.
PARTS = {
    "quantised": "weights stored as codes",
    "layers": "linear, convolution and expert weights stored as floats",
    "embeddings": "token and position embeddings, a tied head with them",
    "head": "the output head, where it is not tied",
    "norms": "weights and biases of norms",
    "other": "biases and whatever belongs to no layer",
    "scales": "scales and zero-points",
    "buffers": "what a model holds besides its weights",
}
#: Bytes of an element in the casts' dtypes.
_ITEM = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to predict.

    Attributes:
        model: a catalog name, a local folder with a Hugging Face checkpoint, or a Hub id ``owner/name``.
        precisions: without repeats, in the table's order; empty for all that this device could run.
        also: what quantisers convert besides linear layers, convolutions and experts: names of ``spec.ALSO``.
        revision: branch, tag or commit of a Hub id; None takes ``main``.
    """

    model: str
    precisions: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class StoredModule:
    """What a checkpoint stores for one module: its largest tensor's dtype (safetensors' name), elements and bytes."""

    name: str
    dtype: str
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HeaderPlan:
    """What the headers alone tell.

    Attributes:
        revision: the Hub's commit.
        model_id: of config and headers.
        stored_bytes: of all tensors on disk; ``elements`` counts them.
        dtypes: by safetensors' name: elements and bytes on disk.
        cast_bytes: float cast → bytes of the stored tensors in it. An estimate: ``notes`` say what is not in it.
    """

    model: str
    revision: str | None
    model_id: str
    architecture: str
    stored_bytes: int
    elements: int
    dtypes: dict[str, DtypeShare]
    modules: tuple[StoredModule, ...]
    cast_bytes: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedModule:
    """A module that holds tensors itself: name, class and weights (tied ones counted once)."""

    name: str
    kind: str
    parameters: int


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """The footprint in one precision.

    Attributes:
        predicted_bytes: what the loaded model's weights and buffers will take.
        parts: name of ``PARTS`` → bytes; they sum to ``predicted_bytes``.
        dtypes: what one value is (``"int4"``) → weights and bytes.
        ratio: ``predicted_bytes`` to those of fp32.
        bits_per_weight: of the weights that are stored as codes, scales included; None where there are none.
        bits_per_parameter: of the whole model.
        module_bytes: in the order of ``Plan.modules``, as ``module_dtypes``: what most of a module's bytes hold.
    """

    precision: str
    predicted_bytes: int
    parts: dict[str, int]
    dtypes: dict[str, DtypeShare]
    ratio: float
    bits_per_weight: float | None
    bits_per_parameter: float
    module_bytes: tuple[int, ...]
    module_dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotPlanned:
    """A precision that this model cannot have, and why."""

    precision: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact step.

    Attributes:
        entries: as asked for, fp32 first.
        parameters: tied ones counted once.
        stored_bytes: of all tensors on disk.
    """

    model: str
    revision: str | None
    model_id: str
    architecture: str
    parameters: int
    stored_bytes: int
    fp32_bytes: int
    entries: tuple[PlanEntry, ...]
    not_planned: tuple[NotPlanned, ...]
    modules: tuple[PlannedModule, ...]
    notes: tuple[str, ...]


def checked(request: PlanRequest) -> PlanRequest:
    """The same request in its one canonical form, its precisions named.

    Raises:
        UnknownName: a precision or kind of module that there is not.
        InvalidSpec: no model.
    """
    model = model_name(request.model)
    for name in request.precisions:
        precision(name)
    for name in request.also:
        look_up(ALSO, name, "kind of module")
    asked = request.precisions or tuple(
        row.name
        for row in PRECISIONS.values()
        if row.family != STORED and not row.as_run and not unavailable(row, catalog.device())
    )
    ordered = sorted((name for name in PRECISIONS if name in asked), key=lambda name: name != "fp32")
    also = tuple(name for name in ALSO if name in request.also)
    return replace(request, model=model, precisions=tuple(ordered), also=also, revision=request.revision or None)


def read(request: PlanRequest, progress: Callable[[str, float], None]) -> tuple[Checkpoint, str | None]:
    """Config and headers of the model, and the Hub's commit. No weight is read.

    Raises:
        QfundError: as ``catalog.locate``, ``checkpoint.read_headers`` and ``hub.read_headers``.
    """
    source = catalog.locate(request.model, request.revision)
    if source.folder is None:
        from qfund.checkpoints import hub  # the Hub's client takes as long to import as all the rest

        return hub.read_headers(source.name, source.revision, progress)
    return checkpoint.read_headers(source.folder), None


def headers(request: PlanRequest, progress: Callable[[str, float], None]) -> HeaderPlan:
    """The step *at once*.

    Raises:
        InvalidSpec: a precision is asked for that is no float cast.
        QfundError: as ``read``.
    """
    for name in request.precisions:
        if precision(name).family != CAST:
            raise InvalidSpec(
                f"Headers alone do not tell what {precision(name).label} converts.", "Leave out --headers."
            )
    request = checked(request)
    found, commit = read(request, progress)
    casts = [] if found.quantization else [name for name in request.precisions if PRECISIONS[name].family == CAST]
    return HeaderPlan(
        model=request.model,
        revision=commit,
        model_id=found.id,
        architecture=found.architecture,
        stored_bytes=stored_bytes(found),
        elements=sum(tensor.elements for tensor in found.tensors.values()),
        dtypes=shares(found.tensors.values()),
        modules=_modules(found),
        cast_bytes={name: _cast_bytes(found.tensors.values(), _ITEM[PRECISIONS[name].dtype]) for name in casts},
        notes=_notes(found),
    )


def from_headers(request: PlanRequest) -> HeaderPlan:
    """The step *at once*, in every float cast, without a word of progress.

    Raises:
        QfundError: as ``read``.
    """
    return headers(replace(request, precisions=()), lambda phase, share: None)


def stored_bytes(found: Checkpoint) -> int:
    """Of all tensors on disk."""
    return sum(tensor.bytes for tensor in found.tensors.values())


def shares(tensors: Iterable[StoredTensor]) -> dict[str, DtypeShare]:
    """Elements and bytes by safetensors' name of the dtype, the most bytes first."""
    found: dict[str, DtypeShare] = {}
    for tensor in tensors:
        held = found.get(tensor.dtype, DtypeShare(0, 0))
        found[tensor.dtype] = DtypeShare(held.parameters + tensor.elements, held.bytes + tensor.bytes)
    return dict(sorted(found.items(), key=lambda pair: -pair[1].bytes))


def _modules(found: Checkpoint) -> tuple[StoredModule, ...]:
    """In the files' order."""
    by_name: dict[str, list[StoredTensor]] = {}
    for name, tensor in found.tensors.items():
        by_name.setdefault(name.rpartition(".")[0], []).append(tensor)
    return tuple(
        StoredModule(
            name,
            max(tensors, key=lambda tensor: tensor.bytes).dtype,
            sum(tensor.elements for tensor in tensors),
            sum(tensor.bytes for tensor in tensors),
        )
        for name, tensors in by_name.items()
    )


def _cast_bytes(tensors: Iterable[StoredTensor], item: int) -> int:
    """Integers stay as they are."""
    return sum(tensor.elements * item if tensor.dtype in _FLOATS else tensor.bytes for tensor in tensors)


def _tied_head(found: Checkpoint) -> str | None:
    """An output head that is stored although the config ties it."""
    text = found.config.get("text_config")
    ties_it = found.config.get("tie_word_embeddings") or (isinstance(text, dict) and text.get("tie_word_embeddings"))
    heads = (name for name in found.tensors if name.rpartition(".")[0].rpartition(".")[2] in ("lm_head", "embed_out"))
    return next(heads, None) if ties_it else None


def _embeddings(found: Checkpoint, head: str) -> str | None:
    """What it is tied to: the first other tensor of its shape that is called as embeddings are."""
    named = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in", "shared", "embeddings")
    shape = found.tensors[head].shape
    return next(
        (
            name
            for name, tensor in found.tensors.items()
            if name != head and tensor.shape == shape and name.rpartition(".")[0].rpartition(".")[2] in named
        ),
        None,
    )


def _notes(found: Checkpoint) -> tuple[str, ...]:
    notes = [
        "From headers alone: stored parameters, not buffers. They do not tell which modules transformers keeps in "
        "FP32, nor which stored tensors the model drops (a tied head, old masks) or makes anew (a missing head)."
    ]
    if (head := _tied_head(found)) is not None:
        embeddings = _embeddings(found, head)
        equal = embeddings is not None and ties.same(found, head, embeddings, whole=False).same
        loaded = (
            "it takes no memory of its own" if equal else "with other values than theirs, transformers does not tie it"
        )
        if embeddings is None:
            loaded = "whether it takes memory of its own depends on whether its values are theirs"
        notes.append(
            f"The config ties the output head to the embeddings, yet {head} is stored "
            f"({found.tensors[head].bytes:,} bytes): loaded, {loaded}."
        )
    if found.wrapper:
        notes.append(recognition.wrapper_sentence(found.wrapper))
    if found.quantization:
        notes.append(f"The checkpoint is quantised already ({found.quantization.label}): its sizes are as stored.")
    return tuple(notes)
