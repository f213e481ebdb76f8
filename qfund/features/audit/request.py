"""What is asked of a quantised file, what was found in it, and what its head alone tells. No torch."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from qfund.checkpoints import catalog
from qfund.checkpoints.wild import locating
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.checkpoints.wild.table import FORMATS, open_file
from qfund.core.errors import InvalidSpec
from qfund.core.request import model_name

#: SQNR in dB from which on only the last bit of a float32 was lost on the way (gemma's norms, a state space's A).
EXACT = 120.0
#: Largest file that is fetched from the Hub.
LARGEST = 1 << 42
_NORM = re.compile(r"norm|ln_\d|ln_f|layernorm", re.IGNORECASE)
_ROUTER = re.compile(
    r"(mlp|block_sparse_moe|feed_forward)\.(gate|router)(\.weight|\.bias)?$|ffn_gate_inp|shared_expert_gate"
)


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What to look into.

    Attributes:
        file: a path, or ``owner/name@revision:file`` of the Hub.
        model: the original: a catalog name, a local folder or a Hub id; empty for the file alone.
        revision: branch, tag or commit of the original's Hub id.
    """

    file: str
    model: str = ""
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class TensorAudit:
    """One tensor: of the original's name where there is an original, else of the file's.

    Attributes:
        bits: per weight, scales included.
        sqnr: 10·log10(Σ original² / Σ (original − decoded)²) in dB; None where nothing differs or was compared.
        same: whether every number is the original's; None where nothing was compared.
        largest: the largest |original − decoded|.
        nonfinite: decoded numbers that are not finite.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    bits: float
    bytes: int
    quantized: bool
    sqnr: float | None = None
    same: bool | None = None
    largest: float | None = None
    nonfinite: int = 0

    @property
    def parameters(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def meant_to_stay(self) -> bool:
        """Norms, biases, routers: what nobody means to quantise, since it is small and everything goes through it."""
        return len(self.shape) < 2 or bool(_NORM.search(self.name) or _ROUTER.search(self.name))


@dataclass(frozen=True, slots=True)
class TypeShare:
    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Audit:
    """
    Attributes:
        bytes: of the file; ``bits_of_file``, ``bits_of_parameters`` and ``bits_of_quantized`` are bits per weight: all
            bytes over all parameters, the tensors' over all parameters, and of tensors of codes alone.
        types: by type, the largest share of the bytes first.
        original: what it was held against; empty for nothing.
        folded: why tensors cannot be compared one by one; None where they can.
        inputs: what the format's kernels round besides; None for nothing.
        lent: tensors that the file lacks and the original has (a vision tower).
    """

    file: str
    format: str
    label: str
    id: str
    bytes: int
    parameters: int
    bits_of_file: float
    bits_of_parameters: float
    bits_of_quantized: float | None
    types: dict[str, TypeShare]
    tensors: tuple[TensorAudit, ...]
    original: str = ""
    folded: str | None = None
    inputs: str | None = None
    lent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def checked(request: AuditRequest) -> AuditRequest:
    """
    Raises:
        InvalidSpec: no file is named, or a revision of nothing.
    """
    if not request.file.strip() or len(request.file) > 1024 or "\0" in request.file:
        raise InvalidSpec("No quantised file is named.", "Give its path, or owner/name:file of the Hub.")
    if request.revision and not request.model:
        raise InvalidSpec("A revision is given without an original.", "Name the original too.")
    model = model_name(request.model) if request.model else ""
    return replace(request, model=model, revision=request.revision or None)


def identity(request: AuditRequest) -> str:
    """What identifies the file and its original."""
    original = catalog.identity(request) if request.model else "nothing"
    return f"{locating.identity([request.file])} beside {original}"


def contents(request: AuditRequest, progress: Callable[[str, float], None] = lambda phase, share: None) -> Audit:
    """What the file's head alone tells.

    Raises:
        QfundError: it is not there, or cannot be read.
    """
    file = opened(request, progress)
    return listed(request.file, file, [of_head(name, tensor) for name, tensor in file.tensors.items()])


def opened(request: AuditRequest, progress: Callable[[str, float], None]) -> QuantizedFile:
    return open_file(locating.fetched(request.file, LARGEST, progress))


def of_head(name: str, tensor: PackedTensor) -> TensorAudit:
    """A tensor before a number of it was read."""
    return TensorAudit(name, tensor.type, tensor.shape, tensor.bits, tensor.bytes, tensor.quantized)


def listed(given: str, file: QuantizedFile, tensors: Iterable[TensorAudit]) -> Audit:
    """The file's facts beside its tensors."""
    types: dict[str, TypeShare] = {}
    for tensor in file.tensors.values():
        held = types.get(tensor.type, TypeShare(0, 0, 0))
        types[tensor.type] = TypeShare(held.tensors + 1, held.parameters + tensor.elements, held.bytes + tensor.bytes)
    return Audit(
        file=given,
        format=file.format,
        label=file.label,
        id=file.id,
        bytes=file.bytes,
        parameters=file.parameters,
        bits_of_file=file.bits.file,
        bits_of_parameters=file.bits.parameters,
        bits_of_quantized=file.bits.quantized,
        types=dict(sorted(types.items(), key=lambda item: -item[1].bytes)),
        tensors=tuple(tensors),
        folded=file.folded,
        # What a folder says of itself is all; a GGUF file says nothing of the kernels that run it.
        inputs=FORMATS[file.format].inputs if file.config is None else file.inputs,
        notes=file.notes,
    )


def main_type(found: Audit) -> str | None:
    """The type of codes that most parameters have; None where there are none."""
    coded: dict[str, int] = {}
    for tensor in found.tensors:
        if tensor.quantized:
            coded[tensor.type] = coded.get(tensor.type, 0) + tensor.parameters
    return max(coded, key=lambda kind: coded[kind], default=None)


def changed(found: Audit) -> tuple[TensorAudit, ...]:
    """What should have been left alone and was not: norms, biases and routers that hold codes or other numbers."""
    return tuple(
        row
        for row in found.tensors
        if row.meant_to_stay and (row.quantized or (row.same is False and (row.sqnr is None or row.sqnr < EXACT)))
    )


def kept_higher(found: Audit) -> tuple[TensorAudit, ...]:
    """Matrices with more bits than the type that most have."""
    main = main_type(found)
    usual = next((row.bits for row in found.tensors if row.type == main and row.quantized), None)
    if usual is None:
        return ()
    return tuple(row for row in found.tensors if not row.meant_to_stay and row.bits > usual * 1.001)


def pattern(name: str) -> tuple[str, int | None]:
    """A name without the number of its layer, and the number: ``model.layers.*.mlp.up_proj.weight``, 3."""
    found = re.search(r"(?<=\.)\d+(?=\.)", name)
    return (name, None) if found is None else (f"{name[: found.start()]}*{name[found.end() :]}", int(found[0]))


@dataclass(frozen=True, slots=True)
class Kind:
    """Modules of one place in every layer, in one type. ``layers`` is empty of what is in no layer."""

    name: str
    type: str
    layers: tuple[int, ...]
    bytes: int
    lowest: float | None


def by_module(tensors: Iterable[TensorAudit]) -> tuple[Kind, ...]:
    """The map of modules by type, in the order of the file."""
    groups: dict[tuple[str, str], list[tuple[int | None, TensorAudit]]] = {}
    for row in tensors:
        name, layer = pattern(row.name)
        name = re.sub(r"experts\.\d+\.", "experts.*.", name)
        groups.setdefault((name, row.type), []).append((layer, row))
    order = {name: place for place, name in reversed(list(enumerate(name for name, _ in groups)))}
    return tuple(
        Kind(
            name,
            kind,
            tuple(sorted({layer for layer, _ in rows if layer is not None})),
            sum(row.bytes for _, row in rows),
            min((row.sqnr for _, row in rows if row.sqnr is not None), default=None),
        )
        for (name, kind), rows in sorted(groups.items(), key=lambda item: order[item[0][0]])
    )
