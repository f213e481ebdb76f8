"""What becomes of a checkpoint's tensors in its model, as transformers names them: read, unread, lacking, tied."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping

from qfund.checkpoints import ties
from qfund.checkpoints.checkpoint import Checkpoint, not_floats
from qfund.checkpoints.headers import shortened
from qfund.checkpoints.recognition import wrapper_sentence
from qfund.core.errors import CorruptCheckpoint
from qfund.core.units import bytes_text
from qfund.models.match.ties import stored_twice, weight_names
from qfund.precisions.quantizers.quantizer import dtype_name

#: How many names stand in a sentence.
_FEW = 3


@dataclass(frozen=True, slots=True)
class Matching:
    """
    Attributes:
        unread: stored tensors that no module reads.
        lacking: weights that nothing stored makes, where that can be told from names alone.
        untied: weights that the config ties, stored with other values: transformers does not tie them. Each with what
            it would be tied to.
        sampled: whether equal ones were only sampled.
        twice: whether anything that the config ties is stored twice: whether it is equal depends on the dtype.
    """

    unread: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    untied: dict[str, str] = field(default_factory=dict)
    sampled: bool = False
    twice: bool = False


def match(checkpoint: Checkpoint, model: Any, dtype: torch.dtype) -> Matching:
    """Hold a checkpoint against a model without weights that is loaded in this dtype.

    Raises:
        CorruptCheckpoint: nothing of what is stored is what the model needs.
        UnsupportedModel: a weight is stored in whole numbers.
    """
    made = weight_names(checkpoint.tensors, model)
    state = model.state_dict()
    unread = tuple(key for key, name in made.items() if name not in state)
    if made and len(unread) == len(made):
        raise _nothing_fits(checkpoint, model)
    sources = {name: key for key, name in made.items() if name in state}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if checkpoint.quantization is None:
        for name, key in sources.items():
            if name in parameters and not checkpoint.tensors[key].is_float:
                raise not_floats(checkpoint.folder.name, key, checkpoint.tensors[key].dtype)
    untied, sampled, twice = _untied(checkpoint, model, sources, dtype)
    return Matching(unread, _lacking(model, parameters, sources), untied, sampled, twice)


def untie(model: Any, names: Iterable[str]) -> None:
    """Give each of these a parameter of its own, as transformers leaves it."""
    for name in names:
        prefix, _, key = name.rpartition(".")
        owner = model.get_submodule(prefix)
        own = torch.empty_like(getattr(owner, key), device="meta")
        setattr(owner, key, nn.Parameter(own, requires_grad=False))


def unread_sentence(checkpoint: Checkpoint, unread: Iterable[str]) -> str | None:
    """Count, bytes and examples; None where there are none."""
    names = sorted(unread)
    if not names:
        return None
    size = sum(checkpoint.tensors[name].bytes for name in names)
    share = size / max(1, sum(tensor.bytes for tensor in checkpoint.tensors.values()))
    return (
        f"{len(names):,} stored tensor{'s' * (len(names) > 1)} ({bytes_text(size)}, {share:.1%} of the files) "
        f"{'are' if len(names) > 1 else 'is'} read by no module of {checkpoint.architecture}, so transformers drops "
        f"{'them' if len(names) > 1 else 'it'}: {_few(names)}."
    )


def sentences(checkpoint: Checkpoint, found: Matching) -> list[str]:
    """What whoever reads sizes of this model has to know."""
    said = []
    if checkpoint.wrapper:
        said.append(wrapper_sentence(checkpoint.wrapper))
    if checkpoint.quantization is None and (sentence := unread_sentence(checkpoint, found.unread)):
        said.append(sentence)
    if checkpoint.quantization is None and found.lacking:
        said.append(
            f"{len(found.lacking):,} of the model's tensors are not stored; transformers would make them up, so qfund "
            f"does not run it: {_few(found.lacking)}."
        )
    for name, source in found.untied.items():
        said.append(
            f"The config ties {name} to {source}, yet both are stored with different values: transformers does not tie "
            "them, and both are counted."
        )
    if found.sampled:
        said.append("What the config ties is stored twice; samples of both were equal, so it is counted once.")
    return said


def _few(names: Iterable[str]) -> str:
    every = [shortened(name) for name in names]
    return ", ".join(every[:_FEW]) + (f" and {len(every) - _FEW:,} more" if len(every) > _FEW else "")


def _nothing_fits(checkpoint: Checkpoint, model: Any) -> CorruptCheckpoint:
    """Names with something before them that the model's do not have are told apart from another model's."""
    names = list(checkpoint.tensors)
    message = (
        f"None of the {len(names):,} tensors of {checkpoint.folder.name} is one that {checkpoint.architecture} reads"
        f"{f': {_few(names)}' if names else ''}."
    )
    state, prefix = model.state_dict(), ""
    while names and "." in names[0] and all(name.startswith(names[0].partition(".")[0] + ".") for name in names):
        prefix += names[0].partition(".")[0] + "."
        names = [name.partition(".")[2] for name in names]
        if any(name in state for name in weight_names(names, model).values()):
            return CorruptCheckpoint(
                f"{message} Without `{prefix}` before their names they would be.",
                "Save the model itself, not what wraps it, or rename the tensors.",
            )
    return CorruptCheckpoint(message, "config.json and weights must belong together.")


def _lacking(model: Any, parameters: dict[str, nn.Parameter], sources: dict[str, str]) -> tuple[str, ...]:
    if any(len(rule.target_patterns) > 1 for rule in get_model_conversion_mapping(model)):
        return ()  # one stored tensor makes several, of which only the first is told
    there = {id(parameters[name]) for name in sources if name in parameters}
    ignored = "|".join(getattr(model, "_keys_to_ignore_on_load_missing", None) or ())
    return tuple(
        name
        for name, tensor in parameters.items()
        if id(tensor) not in there and not (ignored and re.search(ignored, name))
    )


def _untied(
    checkpoint: Checkpoint, model: Any, sources: dict[str, str], dtype: torch.dtype
) -> tuple[dict[str, str], bool, bool]:
    """What is stored twice with other values, whether equal ones were sampled, and whether anything is stored twice."""
    untied: dict[str, str] = {}
    sampled = twice = False
    for target, source, first, second in stored_twice(model, sources):
        answer, twice = ties.same(checkpoint, first, second, dtype_name(dtype)), True
        sampled |= answer.same and answer.sampled
        if not answer.same:
            untied[target] = source
    return untied, sampled, twice
