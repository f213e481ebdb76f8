"""Weights that a config ties and a file stores twice: transformers ties them where the two are equal."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from qfund.checkpoints.checkpoint import Checkpoint, places
from qfund.checkpoints.wild.packed_tensor import PackedTensor

_CHUNK = 4 * 1024**2  # values that are compared at once


def weight_names(names: Iterable[str], model: Any) -> dict[str, str]:
    """Tensor of the checkpoint → the weight that it becomes, or the first of them, or a part of it."""
    state = model.state_dict()
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    found: dict[str, str] = {}
    for key in names:
        name, _ = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if name not in state and key in state:
            name, _ = rename_source_key(key, [], [], model.base_model_prefix, state)
        found[key] = name
    return found


def tie_equal(checkpoint: Checkpoint, model: Any, dtype: torch.dtype) -> None:
    """Tie what transformers would, had it seen values: in a model on the meta device it leaves apart whatever is stored
    twice."""
    equal = {pair[0] for pair in _stored_twice(checkpoint, model) if _equal(checkpoint, pair, dtype)}
    if equal:
        model.tie_weights(missing_keys=equal, recompute_mapping=False)


#: The weight that is tied, the one that it is tied to, and the tensors of the checkpoint that hold them.
Pair = tuple[str, str, str, str]


def _stored_twice(checkpoint: Checkpoint, model: Any) -> Iterator[Pair]:
    tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    if not tied:
        return
    keys = {name: key for key, name in weight_names(checkpoint.tensors, model).items()}
    for target, source in tied.items():
        if target in keys and source in keys and keys[target] != keys[source]:
            yield target, source, keys[target], keys[source]


def _equal(checkpoint: Checkpoint, pair: Pair, dtype: torch.dtype) -> bool:
    """Whether the two are equal once they are loaded in this dtype."""
    target, source = pair[2:]
    if checkpoint.tensors[target].shape != checkpoint.tensors[source].shape:
        return False
    if checkpoint.packed:
        return _equal_packed(checkpoint.packed[target], checkpoint.packed[source], dtype)
    files = places(checkpoint.folder)
    return _equal_values(checkpoint.id, files[target][0], target, files[source][0], source, dtype)


def _equal_packed(one: PackedTensor, other: PackedTensor, dtype: torch.dtype) -> bool:
    if one.parts == other.parts:
        return True
    step = max(1, _CHUNK * one.rows // max(1, one.elements))
    parts = ((start, min(start + step, one.rows)) for start in range(0, one.rows, step))
    return all(
        torch.equal(torch.from_numpy(one.decode(*part)).to(dtype), torch.from_numpy(other.decode(*part)).to(dtype))
        for part in parts
    )


@lru_cache(maxsize=64)
def _equal_values(_: str, one_file: Path, one: str, other_file: Path, other: str, dtype: torch.dtype) -> bool:
    with safe_open(one_file, "pt") as first, safe_open(other_file, "pt") as second:
        left, right = first.get_slice(one), second.get_slice(other)
        rows, *rest = left.get_shape() or [1]
        step = max(1, _CHUNK // max(1, torch.Size(rest).numel()))
        return all(
            torch.equal(left[start : start + step].to(dtype), right[start : start + step].to(dtype))
            for start in range(0, rows, step)
        )
