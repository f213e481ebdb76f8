"""Which matrices of a transformers model llama.cpp never quantises."""

import re

from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund.precisions.gguf_names import gguf_name

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
