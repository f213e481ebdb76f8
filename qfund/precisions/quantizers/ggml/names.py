"""What llama.cpp calls a weight of a transformers model, and which matrices it never quantises."""

import re
from functools import cache
from itertools import chain

from gguf import TENSOR_NAMES, TensorNameMap
from torch import nn
from transformers.pytorch_utils import Conv1D

#: Matrices that llama-quantize leaves as they are, by their names in a file.
_KEPT = {
    "position_embd": "an embedding of positions",
    "token_types": "an embedding of token types",
    "ffn_gate_inp": "a router of experts",
    "attn_rel_b": "a bias by relative position",
    "ssm_conv1d": "a short convolution",
    "altup": "a small projection of its own kind",
    "laurel": "a small projection of its own kind",
    "per_layer_model_proj": "a small projection of its own kind",
    "time_mix": "a small matrix of its own kind",
}
#: RWKV's large matrices are quantised, as all others.
_TIME_MIX = re.compile(r"time_mix_(key|value|receptance|gate|output|[rkvgo])\.weight$")


def gguf_name(name: str) -> str | None:
    """``model.layers.3.self_attn.v_proj.weight`` → ``blk.3.attn_v.weight``; None where llama.cpp has no name for it.

    By the tables of the ``gguf`` package, those of all architectures together: models of one kind name alike.
    """
    plain = name.removesuffix(".weight")
    found = re.search(r"(?<=\.)\d+(?=\.)", plain)
    block = found.group() if found else ""
    pattern = plain[: found.start()] + "{bid}" + plain[found.end() :] if found else plain
    while pattern:
        for tried in (pattern, f"model.{pattern}"):
            if tried in _names():
                return _names()[tried].replace("{bid}", block) + ".weight"
        pattern = pattern.partition(".")[2]  # models within models
        if not found and "." not in pattern:
            return None
    return None


@cache
def _names() -> dict[str, str]:
    found: dict[str, str] = {}
    tables = TensorNameMap.block_mappings_cfg, TensorNameMap.mappings_cfg
    for tensor, names in chain.from_iterable(table.items() for table in tables):
        for name in names:
            found.setdefault(name, TENSOR_NAMES[tensor])
    return found


def kept(name: str, module: nn.Module, stacked: bool) -> str | None:
    """Why a weight of two or more dimensions stays in a GGUF file as it is; None where it is quantised."""
    if not stacked and not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
        return "no matrix of a linear layer or an embedding, which GGUF files keep wide"
    called = gguf_name(name) or ""
    if isinstance(module, nn.Embedding) and re.search(r"position|token_type|segment|wpe", name):
        called = "position_embd"
    for part, what in _KEPT.items():
        if part in called and not _TIME_MIX.search(called):
            return f"{what}, which GGUF files keep wide"
    if isinstance(module, nn.Linear) and 1 in module.weight.shape:
        return "a single row or column, which GGUF files keep wide"
    return None
