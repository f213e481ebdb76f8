"""The exact step of a plan: every footprint to the byte, from the model built without weights."""

from collections.abc import Callable
from typing import Any

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import CorruptCheckpoint, NothingConverted
from qfund.core.tensors import DtypeShare, TensorRow
from qfund.features.memory.measure import stored
from qfund.features.memory.request.plan import (
    PARTS,
    NotPlanned,
    Plan,
    PlanEntry,
    PlannedModule,
    PlanRequest,
    checked,
    read,
    stored_bytes,
)
from qfund.models import multimodal, prequantized
from qfund.models.footprint import Footprint
from qfund.models.skeleton import Skeleton, Skeletons
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.table import PRECISIONS


def plan(
    request: PlanRequest,
    progress: Callable[[str, float], None],
    known: tuple[Checkpoint, str | None] | None = None,
) -> Plan:
    """Predict what the loaded model's weights and buffers will take, without reading a weight.

    ``known`` is what ``qfund.features.memory.request.plan.read`` gave, where somebody has asked before.

    Raises:
        UnsupportedModel: an architecture that cannot be built, or a checkpoint that is quantised already.
        CorruptCheckpoint: config and weights do not belong together.
        NothingConverted: no precision asked for converts anything.
        QfundError: as ``qfund.features.memory.request.plan.read``.
    """
    request = checked(request)
    found, commit = known or read(request, progress)
    names = _planned(found, request)
    for name in names:
        row = PRECISIONS[name]
        prequantized.check(found, row.family == STORED, row.label)
    skeletons = Skeletons(found)
    dtypes = ["float32"]

    def skeleton(dtype: str) -> Skeleton:
        if dtype not in dtypes:
            progress(f"building {found.architecture} without weights in {dtype}", len(dtypes) / 4)
            dtypes.append(dtype)
        return skeletons.skeleton(dtype)

    progress(f"building {found.architecture} without weights in float32", 0.0)
    plain = skeleton("float32")
    if found.quantization is None:
        _must_match(found, plain)
    places, kinds = plain.places, plain.kinds
    reference = plain.footprint(PRECISIONS["fp32"])
    notes = [*_turned(found, plain), *_tied(found, reference), *skeletons.notes]
    if found.quantization is not None:
        notes = [*stored.sentences(found, plain), *skeletons.notes]
    parts = multimodal.parts_beside_text(found)
    held: dict[str, tuple[TensorRow, ...]] = {}
    entries: list[PlanEntry] = []
    left_alone: list[str] = []
    not_planned: list[NotPlanned] = []
    for name in names:
        row = PRECISIONS[name]
        try:
            if row.family == STORED:
                footprint = stored.footprint(found, plain)
            else:
                footprint = skeleton(row.dtype).footprint(row, request.also)
        except NothingConverted as error:
            if len(not_planned) + 1 == len(names):
                raise
            not_planned.append(NotPlanned(name, error.message))
            continue
        if row.family != STORED and (stays := skeleton(row.dtype).stays(row, request.also)):
            left_alone.append(f"{row.label}: {stays}.")
        notes += _kept(row, footprint)
        held[row.label] = footprint.tensors
        entries.append(_entry(row, footprint, reference.bytes, places, list(kinds)))
    if parts:
        notes.append(multimodal.sentence(parts, held))
    parameters = dict.fromkeys(kinds, 0)
    for tensor in reference.tensors:
        parameters[_module(tensor.name)] += tensor.parameters
    return Plan(
        model=request.model,
        revision=commit,
        model_id=found.id,
        architecture=found.architecture,
        parameters=reference.parameters,
        stored_bytes=stored_bytes(found),
        fp32_bytes=reference.bytes,
        entries=tuple(entries),
        not_planned=tuple(not_planned),
        modules=tuple(PlannedModule(name, kinds[name], count) for name, count in parameters.items()),
        notes=(*left_alone, *notes),
    )


def _planned(found: Checkpoint, request: PlanRequest) -> tuple[str, ...]:
    """The precisions to plan: of what is quantised already its own, unless others are asked for by name."""
    every = checked(PlanRequest(request.model)).precisions
    if found.quantization is not None and set(every) <= set(request.precisions):
        return (stored.NAME,)
    return request.precisions


def _entry(
    row: Precision, footprint: Footprint, fp32_bytes: int, places: dict[str, str], modules: list[str]
) -> PlanEntry:
    parts = dict.fromkeys(PARTS, 0)
    shares: dict[str, list[int]] = {}  # dtype → weights, bytes
    held: dict[str, dict[str, int]] = {name: {} for name in modules}  # module → dtype → bytes
    for tensor in footprint.tensors:
        converted = "quantised" if tensor.kind == "weight" else "scales"
        parts[places.get(tensor.name, converted)] += tensor.bytes
        module = held[_module(tensor.name)]
        module[tensor.dtype] = module.get(tensor.dtype, 0) + tensor.bytes
        if tensor.shared_with is None:
            share = shares.setdefault(tensor.dtype, [0, 0])
            share[0] += tensor.parameters
            share[1] += tensor.bytes
    total, parameters = sum(parts.values()), sum(share[0] for share in shares.values())
    return PlanEntry(
        precision=row.name,
        predicted_bytes=total,
        parts=parts,
        dtypes={name: DtypeShare(*shares[name]) for name in sorted(shares, key=lambda name: -shares[name][1])},
        ratio=total / fp32_bytes if fp32_bytes else 1.0,
        bits_per_weight=footprint.bits_per_weight,
        bits_per_parameter=8 * total / parameters if parameters else 0.0,
        module_bytes=tuple(sum(dtypes.values()) for dtypes in held.values()),
        module_dtypes=tuple(max(dtypes, key=dtypes.__getitem__, default="float32") for dtypes in held.values()),
    )


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _must_match(found: Checkpoint, skeleton: Skeleton) -> None:
    """A tensor of another size than the config promises cannot be loaded. Names that transformers changes are passed
    over."""
    for name, shape in skeleton.shapes.items():
        stored: Any = found.tensors.get(name)
        if stored is not None and stored.elements != torch.Size(shape).numel():
            raise CorruptCheckpoint(
                f"{found.architecture} needs {name} {list(shape)}, the checkpoint holds {list(stored.shape)}.",
                "Download the checkpoint again; config.json and weights must belong together.",
            )


def _turned(found: Checkpoint, skeleton: Skeleton) -> list[str]:
    """A tensor with as many elements in another shape: transformers turns some as it loads them, and refuses others."""
    for name, shape in skeleton.shapes.items():
        stored: Any = found.tensors.get(name)
        if stored is not None and stored.shape != shape:
            return [
                f"{name} is stored as {list(stored.shape)}, the model has {list(shape)}: unless transformers turns it, "
                "this checkpoint cannot be loaded."
            ]
    return []


def _tied(found: Checkpoint, reference: Footprint) -> list[str]:
    stored = [
        row.name for row in reference.tensors if row.shared_with and {row.name, row.shared_with} <= {*found.tensors}
    ]
    size = sum(found.tensors[name].bytes for name in stored)
    return [f"{stored[0]} is stored although it is tied: {size:,} bytes on disk that take no memory."] if stored else []


def _kept(row: Precision, footprint: Footprint) -> list[str]:
    """What a cast to 16 bits leaves in 32."""
    kept = [tensor for tensor in footprint.tensors if tensor.kind == "weight" and tensor.dtype == "float32"]
    if row.quantizer or row.dtype == "float32" or not kept:
        return []
    size = sum(tensor.bytes for tensor in kept)
    return [f"{row.label}: transformers keeps {len(kept)} tensors in FP32, {kept[0].name} first ({size:,} bytes)."]
