"""The mixes that people download: what llama-quantize chooses for each tensor of a file of one name.

The rules are those of llama.cpp's ``llama_tensor_get_type``: by what a tensor is, how deep it lies, a few facts about
the model, and whether an importance matrix is given.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qfund.precisions.gguf_names import gguf_name
from qfund.precisions.quantizers.ggml.blocks import Blocks
from qfund.precisions.quantizers.heads import output_heads
from qfund.precisions.quantizers.quantizer import Layout, Shape

_HEAD, _TOKENS = "output.weight", "token_embd.weight"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the choice depends on beside the tensor: layers, experts, query heads for each key, Falcon or not, and
    whether llama.cpp takes it for the 70B model, whose values are so small that they get more bits."""

    layers: int
    experts: int
    shared_keys: int
    falcon: bool
    large: bool


@dataclass(frozen=True, slots=True)
class Mix:
    """A file type of llama-quantize. What it does with a matrix of which nothing is known is its ``base``.

    Attributes:
        name: as in llama-quantize: ``Q4_K_M``.
        weighted: whether an importance matrix is given.
    """

    name: str
    base: Blocks
    weighted: bool = False

    @property
    def element(self) -> str:
        return self.base.element

    def choose(self, model: nn.Module, names: Sequence[Sequence[str]], columns: Sequence[int]) -> list[Blocks]:
        """The type of each weight that llama-quantize would take."""
        facts = _facts(model)
        heads = output_heads(model)
        inside = dict(model.named_modules())
        called = []
        for shared in names:
            modules = [inside.get(name.rpartition(".")[0]) for name in shared]
            is_head = any(module in heads for module in modules)
            called.append(_HEAD if is_head else gguf_name(shared[0]) or shared[0])
        if _HEAD not in called:  # llama.cpp has it multiply with the embeddings
            called = [_HEAD if name == _TOKENS else name for name in called]
        values = sorted((name for name in called if "attn_v.weight" in name), key=_layer)
        downs = sorted((name for name in called if "ffn_down" in name), key=_layer)
        many = len(values) + sum("attn_qkv.weight" in name or "attn_kv_b.weight" in name for name in called)
        found = []
        for name, count in zip(called, columns, strict=True):
            place = _layer(name)
            if name in values:
                place = values.index(name)
            elif name in downs and facts.experts <= 1:
                place = downs.index(name)
            found.append(Blocks(self._type(name, place, many, facts)).fitting(count))
        return found

    def _type(self, name: str, place: int, many: int, facts: _Facts) -> str:
        """Of the tensor of that name, ``place`` among those of its kind; ``many`` are the model's value projections."""
        base, mix, deep = self.base.name, self.name, facts.layers
        eight = facts.experts == 8
        if name == _HEAD:
            return "Q8_0" if facts.falcon or base == "Q8_0" else "Q6_K"
        if "attn_v.weight" in name:
            return "Q8_0" if eight else _of_values(mix, base, place, many, facts)
        if "attn_k.weight" in name:
            return "Q8_0" if eight else base
        if "ffn_down" in name:
            if self.weighted and mix in ("Q4_0", "IQ4_XS"):
                return "Q4_1" if mix == "Q4_0" and place < deep // 8 else base
            return _of_downs(mix, base, place, deep, facts)
        if "attn_output.weight" in name and not facts.falcon:
            if eight:
                return "Q5_K" if mix in ("Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_XS") else base
            return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K"}.get(mix, base)
        if "attn_qkv.weight" in name:
            return {"Q3_K_M": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}.get(mix, base)
        return base

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        return self.base.quantize(weight)

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        return self.base.dequantize(stored, shape, dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        return self.base.layout(shape, dtype)

    def by_rows(self, columns: int) -> bool:
        return True

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        return 0


def _more_bits(place: int, many: int) -> bool:
    """The first and the last eighth, and every third between them."""
    return place < many // 8 or place >= 7 * many // 8 or (place - many // 8) % 3 == 2


def _of_values(mix: str, base: str, place: int, many: int, facts: _Facts) -> str:
    found = base
    if mix == "Q2_K":
        found = "Q4_K" if facts.shared_keys >= 4 else "Q3_K"
    elif mix == "Q3_K_M":
        found = "Q5_K" if place < 2 else "Q4_K"
    elif mix == "IQ4_XS" and facts.shared_keys >= 4:
        found = "Q5_K"
    elif mix in ("Q4_K_M", "Q5_K_M") and _more_bits(place, many):
        found = "Q6_K"
    elif mix == "Q4_K_S" and place < 4:
        found = "Q5_K"
    return "Q5_K" if facts.large and found in ("Q3_K", "Q4_K") else found


def _of_downs(mix: str, base: str, place: int, many: int, facts: _Facts) -> str:
    more = _more_bits(place, many)
    if mix == "Q2_K":
        return "Q3_K"
    if mix == "Q3_K_M":
        return "Q5_K" if place < many // 16 else "Q4_K" if more or not facts.falcon else base
    if mix == "Q4_K_M" and facts.falcon:
        return "Q6_K" if place < many // 16 else "Q5_K" if more else base
    if mix in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if more else base
    if place < many // 8 and (mix == "IQ4_XS" or (mix == "Q4_K_S" and not facts.falcon)):
        return "Q5_K"
    return base


def _layer(name: str) -> int:
    found = re.search(r"blk\.(\d+)\.", name)
    return int(found.group(1)) if found else 0


def _facts(model: nn.Module) -> _Facts:
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()

    def number(*names: str) -> int:
        found = (getattr(config, name, None) for name in names)
        return next((value for value in found if isinstance(value, int) and value > 0), 1)

    layers = number("num_hidden_layers")
    queries = number("num_attention_heads")
    keys = number("num_key_value_heads") if getattr(config, "num_key_value_heads", None) else queries
    kind = getattr(config, "model_type", "")
    return _Facts(
        layers,
        number("num_local_experts", "num_experts", "n_routed_experts"),
        queries // keys,
        kind == "falcon",
        large=kind in ("llama", "mistral", "qwen2") and layers == 80 and queries != keys,
    )


Q5_K_M = Mix("Q5_K_M", Blocks("Q5_K"))
Q5_K_S = Mix("Q5_K_S", Blocks("Q5_K"))
Q4_K_M = Mix("Q4_K_M", Blocks("Q4_K"))
Q4_K_S = Mix("Q4_K_S", Blocks("Q4_K"))
Q4_0_MIX = Mix("Q4_0", Blocks("Q4_0"))
IQ4_XS_MIX = Mix("IQ4_XS", Blocks("IQ4_XS"))
Q3_K_M = Mix("Q3_K_M", Blocks("Q3_K"))
Q2_K_MIX = Mix("Q2_K", Blocks("Q2_K"))
