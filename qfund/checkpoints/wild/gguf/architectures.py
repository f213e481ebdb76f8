"""Which architectures of GGUF are read, as which models of transformers, and what their converters do to tensors.

The names are the gguf package's (``MODEL_ARCH_NAMES``); what is undone here is what llama.cpp's convert_hf_to_gguf
does and transformers' loader of GGUF files undoes too (``transformers.modeling_gguf_pytorch_utils``).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qfund.checkpoints.wild import changes
from qfund.checkpoints.wild.packed_tensor import PackedTensor

#: Name in the file, the tensor, the model's config → the tensor as transformers has it.
Undo = Callable[[str, PackedTensor, Mapping[str, Any]], PackedTensor]


def _as_it_is(name: str, tensor: PackedTensor, config: Mapping[str, Any]) -> PackedTensor:
    return tensor


def _heads_together(name: str, tensor: PackedTensor, config: Mapping[str, Any]) -> PackedTensor:
    """Queries and keys: llama.cpp's rotary embedding pairs neighbours, transformers' the halves of a head."""
    found = re.fullmatch(r"blk\.\d+\.attn_([qk])\.(weight|bias)", name)
    if found is None:
        return tensor
    heads = config["num_attention_heads"]
    if found[1] == "k":
        heads = config.get("num_key_value_heads") or heads
    order = np.arange(tensor.rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
    return changes.gathered(tensor, order)


def _norms_less_one(name: str, tensor: PackedTensor, config: Mapping[str, Any]) -> PackedTensor:
    return changes.mapped(tensor, lambda values: values - np.float32(1)) if name.endswith("norm.weight") else tensor


def _inputs_first(name: str, tensor: PackedTensor, config: Mapping[str, Any]) -> PackedTensor:
    """GPT-2's layers hold [in, out]."""
    turned = re.fullmatch(r"blk\.\d+\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", name)
    return changes.transposed(tensor) if turned else tensor


def _state_space(name: str, tensor: PackedTensor, config: Mapping[str, Any]) -> PackedTensor:
    """A of a state space is stored, transformers holds log(−A)."""
    return changes.mapped(tensor, lambda values: np.log(-values)) if name.endswith("ssm_a") else tensor


def _heads_apart(name: str, tensor: PackedTensor, config: Mapping[str, Any]) -> PackedTensor:
    """BLOOM: all queries, all keys, all values in the file; three of a head after another in transformers."""
    if "attn_qkv" not in name:
        return tensor
    heads = config.get("n_head") or config["num_attention_heads"]
    return changes.gathered(tensor, np.arange(tensor.rows).reshape(3, heads, -1).swapaxes(0, 1).reshape(-1))


@dataclass(frozen=True, slots=True)
class Architecture:
    """``models``: transformers' model types that are converted to it."""

    models: tuple[str, ...]
    undo: Undo = _as_it_is


ARCHITECTURES = {
    "llama": Architecture(("llama", "mistral", "mixtral"), _heads_together),
    "qwen2": Architecture(("qwen2",)),
    "qwen3": Architecture(("qwen3",)),
    "qwen2moe": Architecture(("qwen2_moe",)),
    "qwen3moe": Architecture(("qwen3_moe",)),
    "gemma": Architecture(("gemma",), _norms_less_one),
    "gemma2": Architecture(("gemma2",), _norms_less_one),
    "gemma3": Architecture(("gemma3_text", "gemma3"), _norms_less_one),
    "phi2": Architecture(("phi",)),
    "phi3": Architecture(("phi3",)),
    "starcoder2": Architecture(("starcoder2",)),
    "olmo2": Architecture(("olmo2",)),
    "gpt2": Architecture(("gpt2",), _inputs_first),
    "bloom": Architecture(("bloom",), _heads_apart),
    "gpt-oss": Architecture(("gpt_oss",)),
    "mamba": Architecture(("mamba",), _state_space),
}
