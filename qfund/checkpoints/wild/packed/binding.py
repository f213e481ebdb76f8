"""Tensors of a packed folder by the names of its original: most have those; MLX stacks experts, turns convolutions."""

import re
from collections.abc import Mapping

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.wild.changes import element, named, transposed
from qfund.checkpoints.wild.filling import HEAD
from qfund.checkpoints.wild.packed_tensor import PackedTensor

_STACK = re.compile(r"(.*)\.switch_mlp\.(gate|up|down)_proj\.weight")
#: What MLX calls the matrices of an expert → what Mixtral's files do.
_MIXTRAL = {"gate": "w1", "up": "w3", "down": "w2"}
_EMBEDDING = re.compile(r"(.*\.)?(embed_tokens|wte|embed_in|word_embeddings)\.weight")


def bind(tensors: Mapping[str, PackedTensor], original: Checkpoint) -> dict[str, PackedTensor]:
    """The tensors as the original's files have them; what fits no name of those keeps its own."""
    found: dict[str, PackedTensor] = {}
    for tensor in tensors.values():
        for one in _experts(tensor, original):
            found[one.name] = _turned(one, original)
    if HEAD in original.tensors and HEAD not in found and _ties(original):
        for name, tensor in tensors.items():
            if _EMBEDDING.fullmatch(name):
                found[HEAD] = named(tensor, HEAD)
    return found


def _experts(tensor: PackedTensor, original: Checkpoint) -> tuple[PackedTensor, ...]:
    if (match := _STACK.fullmatch(tensor.name)) is None:
        return (tensor,)
    block, kind = match[1], match[2]
    for names in (f"{block}.experts.%d.{kind}_proj.weight", f"{block}.experts.%d.{_MIXTRAL[kind]}.weight"):
        if names % 0 in original.tensors:
            return tuple(named(element(tensor, number), names % number) for number in range(tensor.rows))
    return (tensor,)


def _turned(tensor: PackedTensor, original: Checkpoint) -> PackedTensor:
    """Convolutions of state-space models, whose channels MLX has last."""
    there = original.tensors.get(tensor.name)
    if there is None or tensor.quantized or len(tensor.shape) != 3 or there.shape == tensor.shape:
        return tensor
    turned = transposed(tensor)
    return turned if turned.shape == there.shape else tensor


def _ties(original: Checkpoint) -> bool:
    text = original.config.get("text_config")
    said = (text if isinstance(text, dict) else original.config).get("tie_word_embeddings")
    return said is True
