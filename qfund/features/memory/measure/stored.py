"""The footprint of a checkpoint that is quantised already, as its files hold it: headers tell every byte."""

from collections.abc import Mapping
from typing import Any

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.quantization import beside_codes
from qfund.core.tensors import TensorRow
from qfund.models.footprint import Footprint
from qfund.models.match.names import unread_sentence
from qfund.models.match.ties import weight_names
from qfund.models.skeleton import Skeleton
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

NAME = next(row.name for row in PRECISIONS.values() if row.family == STORED)
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn",
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
}


def base_dtype(found: Checkpoint) -> str:
    """torch's name of the dtype that the model computes in, as its config says; bfloat16 where it says none."""
    said = str(found.config.get("dtype") or found.config.get("torch_dtype")).removeprefix("torch.")
    return said if said in ("float16", "bfloat16", "float32") else "bfloat16"


def footprint(found: Checkpoint, plain: Skeleton) -> Footprint:
    """What the files hold of the model, tensor by tensor, each named in the module that it is of. ``plain`` is the same
    model before it was quantised. What no module reads is not counted, nor a tied tensor that is stored twice."""
    model = plain.model
    state, made = model.state_dict(), weight_names(found.tensors, model)
    left = set(_unread(found, plain))
    again = _tied_again(model, plain, made)
    owners = {name for name, _ in model.named_modules()}
    kinds = {name: row.kind for name, row in plain.rows.items()}
    stored = {name for key, name in made.items() if name in state and not found.tensors[key].is_coded}
    missing = _missing(plain, stored)
    base = base_dtype(found)
    rows = []
    for key, tensor in found.tensors.items():
        name = made[key]
        owner, part = _owner(name, owners)
        if key in again or key in left:
            continue
        dtype = _DTYPES.get(tensor.dtype, tensor.dtype.lower())
        plainly = name in stored
        beside = beside_codes(part)
        coded = not plainly and tensor.is_coded and beside is None
        if plainly:
            kind, elements = kinds.get(name, "weight"), tensor.elements if kinds.get(name) != "buffer" else 0
        else:
            kind, elements = ("weight", missing.pop(owner, 0)) if coded else (beside or "scale", 0)
        called = name if plainly else f"{owner}.{part.replace('.', '_')} (stored)"
        rows.append(
            TensorRow(called, tensor.shape, dtype, dtype, base if coded else dtype, elements, tensor.bytes, kind, None)
        )
    return Footprint(tuple(rows))


def largest_coded(found: Footprint) -> int:
    """Weights of the largest module that is stored as codes."""
    return max(
        (row.parameters for row in found.tensors if row.kind == "weight" and row.dtype != row.logical), default=0
    )


def _owner(name: str, owners: set[str]) -> tuple[str, str]:
    """The module that a stored tensor is of, and what it is called in it."""
    prefix, part = name, ""
    while prefix:
        prefix, _, last = prefix.rpartition(".")
        part = f"{last}.{part}".rstrip(".")
        if prefix in owners:
            break
    return prefix, part


def _unread(found: Checkpoint, plain: Skeleton) -> list[str]:
    """Stored tensors of no module that holds any."""
    model, kinds = plain.model, plain.kinds
    state, owners = model.state_dict(), {name for name, _ in model.named_modules()}
    made = weight_names(found.tensors, model).items()
    return [key for key, name in made if name not in state and _owner(name, owners)[0] not in kinds]


def _missing(plain: Skeleton, stored: set[str]) -> dict[str, int]:
    """Module → its weights that are not stored as numbers."""
    missing: dict[str, int] = {}
    for name, row in plain.rows.items():
        if row.kind == "weight" and row.shared_with is None and name not in stored:
            owner = name.rpartition(".")[0]
            missing[owner] = missing.get(owner, 0) + row.parameters
    return missing


def _tied_again(model: Any, plain: Skeleton, made: Mapping[str, str]) -> set[str]:
    keys = {name: key for key, name in made.items()}
    return {
        keys[target]
        for target, source in model.all_tied_weights_keys.items()
        if target in keys and source in keys and target not in plain.matching.untied
    }


def sentences(found: Checkpoint, plain: Skeleton) -> list[str]:
    """What there is to know of these sizes."""
    assert found.quantization is not None
    said = (
        f"The checkpoint is quantised already ({found.quantization.label}): its sizes are as stored. The library that "
        "runs it may hold them otherwise, and some unpack weights as they run; other precisions would start from "
        "weights that are gone."
    )
    left = unread_sentence(found, _unread(found, plain))
    return [said, left] if left else [said]
