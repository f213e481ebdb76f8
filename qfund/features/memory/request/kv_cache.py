"""The bytes of what a model remembers of its context: KV cache and states, from the fields of its config. No torch.

Sources are transformers 5.23's models and cache layers (``cache_utils.py``); a test builds them and compares bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qfund.core.errors import UnsupportedModel
from qfund.precisions.caches import KvFormat


@dataclass(frozen=True, slots=True)
class CacheLayers:
    """Layers that cache alike.

    Attributes:
        kind: ``"full attention"``, ``"sliding window"``, ``"multi-latent attention"``, ``"cross-attention"`` or
            ``"indexer"``.
        layers: how many.
        keys, values: elements that one layer caches for one token.
        window: most tokens that are kept; None for all.
    """

    kind: str
    layers: int
    keys: int
    values: int
    window: int | None = None

    def tokens(self, context: int) -> int:
        return context if self.window is None else min(context, self.window)


@dataclass(frozen=True, slots=True)
class State:
    """What layers keep of a sequence however long it is.

    ``elements`` of one layer and sequence; ``dtype`` is ``"float32"`` where it stays so in every precision, None where
    it is in the dtype that the precision computes in.
    """

    kind: str
    layers: int
    elements: int
    dtype: str | None = None


#: Models that keep what they remember elsewhere than in the caches that are counted here.
_OTHER_MEMORY = {"rwkv", "xlstm", "recurrent_gemma", "xlnet", "reformer", "minimax", "deepseek_v4"}
_STATES = ("linear_attention", "conv", "hybrid", "hybrid_sliding")
_WINDOWED = ("sliding_attention", "chunked_attention", "hybrid_sliding")
_WHOLE = ("full_attention", "indexed_attention", "hybrid")
_NONE = ("dummy", "moe", "mlp")


class Config:
    """A decoder's config under transformers' common names, every default filled in."""

    def __init__(self, values: Mapping[str, Any], kind: str) -> None:
        self.values, self.kind = values, kind

    def find(self, *names: str) -> int | None:
        """The first of these fields that there is.

        Raises:
            UnsupportedModel: it is no positive whole number.
        """
        for name in names:
            value = self.values.get(name)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
                    raise UnsupportedModel(
                        f"The config of this {self.kind} says {name} = {value!r}, which is no positive whole number.",
                        "Check its config.json.",
                    )
                return int(value)
        return None

    def need(self, *names: str) -> int:
        """The first of these fields, the commonest name last.

        Raises:
            UnsupportedModel: there is none.
        """
        found = self.find(*names)
        if found is None:
            raise UnsupportedModel(
                f"The config of this {self.kind} lacks {names[-1]}, which decides the size of its cache.",
                "Check its config.json.",
            )
        return found


def cache_of(config: Mapping[str, Any]) -> tuple[tuple[CacheLayers, ...], tuple[State, ...]]:
    """What transformers' ``DynamicCache`` keeps for a decoder with this config.

    Args:
        config: transformers' common names (``hidden_size``, ``num_key_value_heads`` …), with its defaults filled in.
            ``layer_types`` and ``windows``, one a layer, say what each layer is and keeps; without them every layer has
            full attention, or all the one ``sliding_window``.

    Raises:
        UnsupportedModel: a field is missing or senseless, or the model remembers in a way that is not known here.
    """
    kind = str(config.get("model_type", "model"))
    if kind in _OTHER_MEMORY:
        raise UnsupportedModel(
            f"What a {kind} remembers of its context is not in a cache that qfund can size.", "Choose another model."
        )
    fields = Config(config, kind)
    types, windows = _layers(fields)
    if unknown := set(types) - {*_STATES, *_WINDOWED, *_WHOLE, *_NONE}:
        raise UnsupportedModel(
            f"This {kind} has layers of the type {', '.join(sorted(unknown))}, whose cache is not known.",
            "Choose another model.",
        )
    cache: list[CacheLayers] = []
    if attending := [(name, window) for name, window in zip(types, windows, strict=True) if name in _WINDOWED + _WHOLE]:
        what, keys, values = _keys_and_values(fields)
        kept = [window if name in _WINDOWED else None for name, window in attending]
        for window in sorted(set(kept), key=lambda window: (window is not None, window or 0)):
            name = what if window is None else "sliding window"
            cache.append(CacheLayers(name, kept.count(window), keys, values, window))
        if indexed := [name for name in types if name == "indexed_attention"]:
            cache.append(CacheLayers("indexer", len(indexed), fields.need("index_head_dim"), 0))
        if config.get("is_encoder_decoder"):
            cache.append(CacheLayers("cross-attention", len(attending), keys, values))
    states: tuple[State, ...] = ()
    if remembering := sum(name in _STATES for name in types):
        convolution, recurrent = _state(fields)
        states = (State("convolution", remembering, convolution),)
        states += (State("recurrence", remembering, recurrent, "float32"),) if recurrent else ()
    return tuple(cache), states


def _layers(fields: Config) -> tuple[list[str], list[int | None]]:
    """Type and window of every layer."""
    types, windows = fields.values.get("layer_types"), fields.values.get("windows")
    if types is None:
        window = fields.find("sliding_window") if fields.values.get("use_sliding_window", True) else None
        layers = fields.need("num_decoder_layers", "decoder_layers", "num_hidden_layers")
        return ["full_attention" if window is None else "sliding_attention"] * layers, [window] * layers
    if windows is None:
        windows = [fields.need("sliding_window") if name in _WINDOWED else None for name in types]
    # A window that is no number of tokens is told as any other field is.
    named = (Config({"sliding_window": window}, fields.kind) for window in windows)
    return list(types), [each.find("sliding_window") for each in named]


def _keys_and_values(fields: Config) -> tuple[str, int, int]:
    """What a layer's attention is called, and the elements of keys and values that it caches for one token."""
    values = fields.values
    if values.get("kv_lora_rank") and values.get("qk_rope_head_dim"):
        # transformers 5 caches the latent and the rotary key, which is all that the DeepSeek-V2 paper needs.
        return "multi-latent attention", fields.need("kv_lora_rank"), fields.need("qk_rope_head_dim")
    heads = fields.need("decoder_attention_heads", "num_attention_heads")
    size = fields.find("head_dim") or fields.need("hidden_size") // heads
    shared = heads if "multi_query" in values else fields.find("num_key_value_heads") or heads
    # Falcon's newer models repeat their grouped keys for every head before they cache them.
    if values.get("multi_query") and not values.get("new_decoder_architecture"):
        shared = 1
    return "full attention", shared * size, shared * (fields.find("v_head_dim") or size)


def _state(fields: Config) -> tuple[int, int]:
    """Elements of the convolution's and of the recurrence's state of one layer and sequence.

    Sources: each model's ``update_conv_state`` and ``update_recurrent_state`` in transformers 5.23.
    """
    return _STATE_OF.get(fields.kind, _unknown_state)(fields)


def _unknown_state(fields: Config) -> tuple[int, int]:
    raise UnsupportedModel(f"The size of the state of a {fields.kind} is not known.", "Choose another model.")


def _mamba(fields: Config) -> tuple[int, int]:
    width = fields.need("intermediate_size")
    return width * fields.need("conv_kernel"), width * fields.need("state_size")


def _jamba(fields: Config) -> tuple[int, int]:
    width = fields.need("mamba_expand") * fields.need("hidden_size")
    return width * fields.need("mamba_d_conv"), width * fields.need("mamba_d_state")


def _scan(width: int, groups: int, state: int, kernel: int, heads: int, head: int) -> tuple[int, int]:
    """Mamba 2: a convolution over inputs, B and C; a matrix a head."""
    return (width + 2 * groups * state) * kernel, heads * head * state


def _mamba2(fields: Config) -> tuple[int, int]:
    return _scan(
        fields.need("expand") * fields.need("hidden_size"),
        *map(fields.need, ("n_groups", "state_size", "conv_kernel", "num_heads", "head_dim")),
    )


def _bamba(fields: Config) -> tuple[int, int]:
    return _scan(
        fields.find("mamba_d_ssm") or fields.need("mamba_expand") * fields.need("hidden_size"),
        *map(fields.need, ("mamba_n_groups", "mamba_d_state", "mamba_d_conv", "mamba_n_heads", "mamba_d_head")),
    )


def _zamba2(fields: Config) -> tuple[int, int]:
    return _scan(
        fields.need("mamba_expand") * fields.need("hidden_size"),
        *map(fields.need, ("mamba_ngroups", "mamba_d_state", "mamba_d_conv", "n_mamba_heads", "mamba_headdim")),
    )


def _nemotron(fields: Config) -> tuple[int, int]:
    return _scan(
        fields.need("mamba_num_heads") * fields.need("mamba_head_dim"),
        *map(fields.need, ("n_groups", "ssm_state_size", "conv_kernel", "mamba_num_heads", "mamba_head_dim")),
    )


def _delta(fields: Config) -> tuple[int, int]:
    """Gated delta rule: a convolution over queries, keys and values; a matrix of keys by values a head."""
    heads, key, value = map(fields.need, ("linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"))
    width = 2 * fields.need("linear_num_key_heads") * key + heads * value
    return width * fields.need("linear_conv_kernel_dim"), heads * key * value


def _convolution(fields: Config) -> tuple[int, int]:
    return fields.need("hidden_size") * fields.need("conv_L_cache"), 0


_STATE_OF: dict[str, Callable[[Config], tuple[int, int]]] = {
    **dict.fromkeys(("mamba", "falcon_mamba"), _mamba),
    "jamba": _jamba,
    "mamba2": _mamba2,
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid"), _bamba),
    "zamba2": _zamba2,
    "nemotron_h": _nemotron,
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "olmo_hybrid"), _delta
    ),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm3"), _convolution),
}

SIZES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
KV_OF = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def kv_bytes(
    cache: Iterable[CacheLayers],
    batch: int,
    context: int,
    kv: KvFormat,
    values: KvFormat | None = None,
    kept: int = 0,
    plain: KvFormat | None = None,
) -> int:
    """batch × tokens × layers × (keys + values) × bytes, and scales, after ``context`` tokens.

    A sliding window keeps its last tokens only. That is what a cache holds while a model writes token by token; right
    after a prompt longer than a window, transformers holds the whole prompt until the next token, which is counted
    among the activations. ``values`` is the format of values where that is another than the keys'. ``kept`` tokens of
    each sequence, the most that ever are, stay as they are computed, ``plain``.
    """
    total = 0
    for row in cache:
        as_computed = min(kept, row.tokens(context))
        tokens = batch * (row.tokens(context) - as_computed)
        total += row.layers * (kv.bytes(tokens * row.keys) + (values or kv).bytes(tokens * row.values))
        if plain is not None:
            total += row.layers * plain.bytes(batch * as_computed * (row.keys + row.values))
    return total


def state_bytes(states: Iterable[State], batch: int, dtype: str) -> int:
    return sum(row.layers * batch * row.elements * SIZES[row.dtype or dtype] for row in states)
