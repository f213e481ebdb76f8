"""Weights that a config ties and a file stores twice: transformers ties them where the two are equal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from qfund.checkpoints import ties
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.precisions.quantizers.quantizer import dtype_name


def weight_names(names: Iterable[str], model: Any) -> dict[str, str]:
    """Tensor of the checkpoint → the weight that it becomes, or the first of them, or a part of it."""
    return {key: name for key, name, _ in _renamed(names, model)}


def as_stored(names: Iterable[str], model: Any) -> set[str]:
    """Those tensors of the checkpoint that no rule of transformers takes apart, joins or turns: they become a weight as
    they are."""
    return {key for key, _, converted in _renamed(names, model) if not converted}


def _renamed(names: Iterable[str], model: Any) -> Iterator[tuple[str, str, bool]]:
    """Every tensor, its weight, and whether more is done to it than to rename it."""
    state = model.state_dict()
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    for key in names:
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if name not in state and key in state:
            name, pattern = rename_source_key(key, [], [], model.base_model_prefix, state)
        yield key, name, pattern is not None


def tie_equal(checkpoint: Checkpoint, model: Any, dtype: torch.dtype) -> None:
    """Tie what transformers would, had it seen values: in a model on the meta device it leaves apart whatever is stored
    twice."""
    if not getattr(model, "all_tied_weights_keys", None):
        return
    sources = {name: key for key, name in weight_names(checkpoint.tensors, model).items()}
    equal = {
        target
        for target, _, first, second in stored_twice(model, sources)
        if ties.same(checkpoint, first, second, dtype_name(dtype)).same
    }
    if equal:
        model.tie_weights(missing_keys=equal, recompute_mapping=False)


def stored_twice(model: Any, sources: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Every weight that the config ties although both have a tensor of the checkpoint (``sources``): its name, that of
    the one it is tied to, and those of the two tensors."""
    tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    for target, source in tied.items():
        if target in sources and source in sources and sources[target] != sources[source]:
            yield target, source, sources[target], sources[source]
