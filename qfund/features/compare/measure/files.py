"""Quantised files and recipes as candidates: opened, held against the original, and counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.wild import against
from qfund.checkpoints.wild.filling import filled
from qfund.checkpoints.wild.gguf import imatrix
from qfund.checkpoints.wild.locating import fetched
from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.checkpoints.wild.table import FORMATS, open_file
from qfund.core.errors import InvalidSpec, UnsupportedModel
from qfund.core.progress import Progress
from qfund.core.tensors import LeftModule, TensorRow
from qfund.features.compare.request.report import FileFacts
from qfund.features.compare.request.spec import Spec
from qfund.models.cache import model_cache
from qfund.models.footprint import Footprint
from qfund.models.skeleton import Skeletons
from qfund.precisions import recipes
from qfund.precisions.files import family_of, file_names, label_of, row_of
from qfund.precisions.precision import GGUF, Precision
from qfund.precisions.quantizers.ggml.weighted import weighted
from qfund.precisions.quantizers.mixture import planned, row_of_recipe
from qfund.precisions.quantizers.plan import plan_of
from qfund.precisions.table import PRECISIONS

#: Types of plain numbers, as torch names them.
_PLAIN = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class File:
    """A file that fills the original's frame, or a recipe that says how to convert it, or a GGUF type as an importance
    matrix has it made, of which ``facts`` tell nothing.

    Attributes:
        row: what its weights are run as.
        checkpoint: the original's, with the file's weights; None where its weights are the original's.
        footprint: what its tensors take in the file, one used in two places once.
        converted, left: modules whose weights are codes, and those with matrices of plain numbers.
    """

    row: Precision
    checkpoint: Checkpoint | None
    footprint: Footprint
    converted: tuple[str, ...]
    left: tuple[LeftModule, ...]
    facts: FileFacts | None

    @property
    def id(self) -> str:
        """Of what it is made of."""
        if self.checkpoint is not None:
            return self.checkpoint.id
        return self.facts.id if self.facts else str(self.row.quantizer)

    @property
    def room(self) -> int:
        """Bytes to make room for: of a file, its weights in FP32."""
        if self.checkpoint is None:
            return self.footprint.bytes
        return sum(4 * tensor.elements for tensor in self.checkpoint.packed.values())


Files = Mapping[str, File]


def open_files(spec: Spec, original: Checkpoint, progress: Progress) -> dict[str, File]:
    """By the names of ``spec.candidates`` (and the reference's).

    Raises:
        QfundError: one is not there, cannot be read, or is no quantised form of the original.
    """
    if spec.files and original.quantization is not None:
        raise UnsupportedModel(
            f"{original.folder.name} is already quantised ({original.quantization.label}), so it is no original that "
            "files can be held against.",
            "Name the original checkpoint as the model, and this one with --file.",
        )
    found = {}
    for name, given in file_names(spec.files).items():
        progress(f"reading {given}", 0.0)
        path = fetched(given, model_cache().budget, progress)
        if recipes.is_recipe(path):
            if name == spec.reference:
                raise InvalidSpec(
                    f"{label_of(name)} is a recipe, which is no reference: it is made of one.",
                    "Let a precision be the reference, and the recipe a candidate.",
                )
            found[name] = _recipe(name, given, path, original)
        else:
            found[name] = _opened(name, given, open_file(path), original)
    return found


def weighted_rows(spec: Spec, original: Checkpoint, progress: Progress) -> dict[str, File]:
    """GGUF types as the importance matrix has them made, by the names of ``spec.precisions``.

    Raises:
        QfundError: it is not there, cannot be read, or is of another model.
    """
    if spec.imatrix is None:
        return {}
    progress(f"reading {spec.imatrix}", 0.0)
    importance = imatrix.read(fetched(spec.imatrix, imatrix.LARGEST, progress))
    found, skeletons = {}, Skeletons(original)
    for name in spec.precisions:
        if family_of(name) == GGUF:
            row = weighted(PRECISIONS[name], importance)
            skeleton = skeletons.skeleton(row.dtype)
            plan = plan_of(skeleton.model, row)
            found[name] = File(row, None, skeleton.footprint(row), plan.converted, plan.left, None)
    return found


def _recipe(name: str, given: str, path: Path, original: Checkpoint) -> File:
    recipe = recipes.read(path)
    row = row_of_recipe(name, recipe)
    skeleton = Skeletons(original).skeleton(row.dtype)
    plan = planned(skeleton.model, row, recipe)
    counted = skeleton.footprint(row)
    held, bits = counted.by_module, 8 * counted.bytes / counted.parameters
    types: dict[str, tuple[int, int]] = {}
    for module, precision in recipe.modules:
        count, size = types.get(PRECISIONS[precision].label, (0, 0))
        types[PRECISIONS[precision].label] = count + 1, size + held.get(module, 0)
    return File(
        row,
        None,
        counted,
        plan.converted,
        plan.left,
        FileFacts(
            file=given,
            format="recipe",
            label="recipe",
            id=recipe.id,
            bytes=counted.bytes,
            bits_of_file=bits,
            bits_of_parameters=bits,
            bits_of_quantized=counted.bits_per_weight,
            types=types,
        ),
    )


def _opened(name: str, given: str, file: QuantizedFile, original: Checkpoint) -> File:
    checkpoint = filled(original, file)
    rows, held = [], dict[tuple[str, ...], str]()
    for weight, tensor in checkpoint.packed.items():
        shared = held.setdefault(tensor.parts, weight) if tensor.parts else weight
        rows.append(_row(weight, tensor, None if shared == weight else shared))
    matrices = {weight: tensor for weight, tensor in checkpoint.packed.items() if len(tensor.shape) > 1}
    bits = file.bits
    types: dict[str, tuple[int, int]] = {}
    for tensor in file.tensors.values():
        count, size = types.get(tensor.type, (0, 0))
        types[tensor.type] = count + 1, size + tensor.bytes
    return File(
        row_of(name),
        checkpoint,
        Footprint(tuple(rows)),
        tuple(_module(name) for name, tensor in matrices.items() if tensor.quantized),
        tuple(
            LeftModule(_module(name), "", f"the file holds it in {tensor.type}")
            for name, tensor in matrices.items()
            if not tensor.quantized
        ),
        FileFacts(
            file=given,
            format=file.format,
            label=file.label,
            id=file.id,
            bytes=file.bytes,
            bits_of_file=bits.file,
            bits_of_parameters=bits.parameters,
            bits_of_quantized=bits.quantized,
            types=types,
            inputs=file.inputs if file.config is not None else FORMATS[file.format].inputs,
            notes=(*file.notes, *against.notes(original, file)),
        ),
    )


def _module(weight: str) -> str:
    return weight.removesuffix(".weight")


def _row(name: str, tensor: PackedTensor, shared: str | None) -> TensorRow:
    dtype = _PLAIN.get(tensor.type, tensor.type)
    return TensorRow(
        name=name,
        shape=tensor.shape,
        dtype=dtype,
        storage="uint8" if tensor.quantized else dtype,
        logical="float32" if tensor.quantized else dtype,
        parameters=0 if shared else tensor.elements,
        bytes=0 if shared else tensor.bytes,
        kind="weight",
        shared_with=shared,
    )
