"""Whether a model fits: its exact weights, built without reading any, and the rows that follow."""

import math
from collections.abc import Iterable

from qfund.checkpoints import catalog, checkpoint, hub
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.wild import locating
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import InvalidSpec, NothingConverted, UnsupportedModel
from qfund.core.progress import Progress
from qfund.features.memory.measure import files, stored
from qfund.features.memory.measure.shape import shape_of
from qfund.features.memory.request.advice import choose, notes, warnings
from qfund.features.memory.request.fits import DEFAULT_PRECISIONS, Fits, FitsRequest, Weights, checked, row_in
from qfund.features.memory.request.kv_cache import SIZES
from qfund.features.memory.request.sizing import rows
from qfund.models import multimodal, prequantized, tasks
from qfund.models.cache import model_cache
from qfund.models.footprint import Footprint
from qfund.models.skeleton import Skeletons
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.table import PRECISIONS
from qfund.version import VERSION


def fits(request: FitsRequest, progress: Progress = lambda phase, share: None) -> Fits:
    """What the model takes in each precision under the workload.

    Raises:
        QfundError: anything that is wrong with the request or the model.
    """
    request = checked(request)
    progress("reading the headers", 0.0)
    if locating.is_file(request.model):
        return _of_file(request, progress)
    source = catalog.locate(request.model, request.revision)
    if source.folder is None:
        found, _ = hub.read_headers(source.name, source.revision, progress)
    else:
        found = checkpoint.read(source.folder)
    task = tasks.task_of(found)
    skeletons = Skeletons(found)
    weights: list[Weights] = []
    refused: dict[str, str] = {}
    quantized = found.quantization is not None
    names = (stored.NAME,) if quantized and request.precisions == DEFAULT_PRECISIONS else request.precisions
    for number, name in enumerate(names):
        progress(f"sizing {PRECISIONS[name].label}", 0.1 + 0.6 * number / len(names))
        try:
            weights.append(weights_of(found, PRECISIONS[name], request.also, skeletons))
        except NothingConverted as error:
            refused[name] = error.message
    of_files, said = files.of_files(request, found, progress)
    progress("tracing a forward", 0.7)
    weights += of_files
    dtypes = {stored.base_dtype(found)} if quantized else {row_in(one.precision).dtype for one in weights}
    shape = shape_of(found, task, dtypes)
    table = rows(shape, weights, request.workload)
    held = _stored_dtypes(found)
    return Fits(
        qfund=VERSION,
        request=request,
        architecture=found.architecture,
        task=task.name,
        shape=shape,
        weights=tuple(weights),
        stored=held,
        rows=table,
        choice=choose(table, request.workload, held, weights),
        refused=refused,
        warnings=warnings(shape, request.workload),
        notes=(
            *notes(shape),
            *said,
            *(stored.sentences(found, skeletons.skeleton("float32")) if quantized else []),
            *skeletons.notes,
            *(
                []
                if quantized
                else _beside_text(
                    found, [one.precision for one in weights if one.bits is None], skeletons, request.also
                )
            ),
        ),
    )


def _of_file(request: FitsRequest, progress: Progress) -> Fits:
    """A GGUF file alone: its weights as they are, its cache by what its head says."""
    if request.files or request.precisions not in ((), DEFAULT_PRECISIONS) or request.revision or request.also:
        raise InvalidSpec(
            f"{request.model} is a quantised file: it stands alone, as it is.",
            "Name its original as the model, and the file with --file, to see it beside precisions.",
        )
    file = open_file(locating.fetched(request.model, model_cache().budget, progress))
    if file.format != "gguf":
        raise UnsupportedModel(
            f"{request.model} does not say what its model caches.", "Name its original, and this with --file."
        )
    architecture, shape, weights = files.alone(file, request)
    table = rows(shape, [weights], request.workload)
    held = {"F32": file.parameters}
    return Fits(
        qfund=VERSION,
        request=request,
        architecture=architecture,
        task="causal language model",
        shape=shape,
        weights=(weights,),
        stored=held,
        rows=table,
        choice=choose(table, request.workload, held, [weights]),
        refused={},
        warnings=warnings(shape, request.workload),
        notes=(*notes(shape), files.KEPT_NOTE),
    )


def _beside_text(
    found: Checkpoint, precisions: Iterable[str], skeletons: Skeletons, also: Iterable[str]
) -> Iterable[str]:
    """What of the weights is there for pictures or sound, where the model reads them too."""
    if parts := multimodal.parts_beside_text(found):
        rows = (PRECISIONS[name] for name in precisions)
        yield multimodal.sentence(parts, {row.label: skeletons.footprint(row, also).tensors for row in rows})


def _stored_dtypes(found: Checkpoint) -> dict[str, int]:
    """Safetensors' name of a dtype → elements of floats stored in it."""
    counts: dict[str, int] = {}
    for tensor in found.tensors.values():
        if tensor.dtype.startswith(("F", "BF")):
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    return counts


def weights_of(
    found: Checkpoint, row: Precision, also: Iterable[str] = (), skeletons: Skeletons | None = None
) -> Weights:
    """The exact footprint, without reading a weight; ``skeletons`` are those of ``found``, where there are any yet.

    Raises:
        UnsupportedModel: the model cannot be built, or is quantised already and this precision is not its own.
        NothingConverted: the precision converts nothing of it.
    """
    prequantized.check(found, row.family == STORED, row.label)
    skeletons = skeletons or Skeletons(found)
    if row.family == STORED:
        footprint, dtype = stored.footprint(found, skeletons.skeleton("float32")), stored.base_dtype(found)
        dequantized = stored.largest_coded(footprint) * SIZES[dtype]
        return Weights(row.name, footprint.bytes, footprint.parts, dequantized)
    footprint = skeletons.footprint(row, also)
    stays = skeletons.stays(row, also)
    return Weights(row.name, footprint.bytes, footprint.parts, _dequantized(footprint, row), stays)


def _dequantized(footprint: Footprint, row: Precision) -> int:
    """Bytes of the largest quantised weight in the precision's base, where weights are dequantised to be multiplied."""
    if row.quantizer is None or (row.product is not None and not row.every_matrix):
        return 0
    coded = [one.parameters for one in footprint.tensors if one.kind == "weight" and one.dtype != one.logical]
    return max(coded, default=0) * SIZES[row.dtype]
