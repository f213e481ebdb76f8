"""What the arithmetic needs of a model besides its weights: its cache, and activations by traces of its forward."""

import inspect
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.cache_utils import get_layer_types_and_kwargs

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import QfundError, UnsupportedModel
from qfund.features.memory.measure.trace import trace
from qfund.features.memory.request.fits import Activations, Phase, Shape
from qfund.features.memory.request.kv_cache import (
    KV_OF,
    CacheLayers,
    State,
    cache_of,
    kv_bytes,
    state_bytes,
)
from qfund.features.memory.request.sizing import formula
from qfund.models import tasks
from qfund.models.tasks import Task
from qfund.precisions.caches import KV_FORMATS

#: Tokens of traces, each beside one that reads twice as many: where what grows with the tokens dominates, where the
#: square of a mask shows, and where scores may dominate.
_SHORT, _MIDDLE, _LONG = 32, 1024, 4096
#: For models with states, whose reference scans loop over blocks of at most 256 tokens in Python, or over each token.
_BLOCK, _EACH = 256, 8
_TOKEN_BY_TOKEN = ("mamba", "falcon_mamba", "jamba", "zamba")
_GENERATING = ("causal language model", "sequence-to-sequence model")
#: transformers' names of what the arithmetic reads.
_FIELDS = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_decoder_layers", "decoder_layers"),
    *("num_attention_heads", "decoder_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim"),
    *("kv_lora_rank", "qk_rope_head_dim", "index_head_dim", "multi_query", "new_decoder_architecture"),
    *("vocab_size", "is_encoder_decoder", "ffn_dim", "encoder_ffn_dim", "d_ff", "conv_kernel", "state_size", "expand"),
    *("n_groups", "num_heads", "mamba_expand", "mamba_d_conv", "mamba_d_state", "mamba_d_ssm", "mamba_n_groups"),
    *("mamba_n_heads", "mamba_d_head", "mamba_ngroups", "n_mamba_heads", "mamba_headdim", "mamba_num_heads"),
    *("mamba_head_dim", "ssm_state_size", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
    *("conv_L_cache", "linear_num_key_heads", "linear_conv_kernel_dim"),
)


def shape_of(found: Checkpoint, task: Task, dtypes: Iterable[str]) -> Shape:
    """What the arithmetic needs besides weights, for precisions that compute in these dtypes.

    Raises:
        UnsupportedModel: the model reads pictures, or its cache is not known, or is not what transformers makes.
    """
    if task.reads != "text":
        raise UnsupportedModel(
            f"{found.architecture} reads {task.reads}; what fits is computed for models that read text only.",
            "See its weights with qfund plan.",
        )
    config = tasks.read_config(found)
    fields = fields_of(config)
    generates = task.name in _GENERATING and hasattr(
        tasks.model_class(found), "generate"
    )  # the lesson's model does not
    cache, states = cache_of(fields) if generates else ((), ())
    wanted = {"float32" if dtype in ("float32", "float64") else "bfloat16" for dtype in dtypes}
    tracer = _Tracer(found, "bfloat16", cache, states, fields)
    traced = _in_dtypes(tracer, wanted)
    return Shape(
        cache=cache,
        states=states,
        activations=traced,
        trained=_trained(config.get_text_config(decoder=True)),
        checked=bool(cache or states) and traced[0].source == "traced",
        on_cpu=_in_dtypes(replace(tracer, cpu=True), wanted) if tracer.unfused else (),
    )


def _in_dtypes(half: "_Tracer", wanted: Container[str]) -> tuple[Activations, ...]:
    """Activations in bf16, which ``half`` traces, and where it is wanted in fp32."""
    first = half.activations()
    if "float32" not in wanted:
        return (first,)
    # Twice the bytes of bf16 is at most 4 % too many, unless a model in bf16 holds what has other types: masks and
    # distances, scores in fp32, states.
    square = any(phase.per_square or phase.shared_square for phase in first.last)
    alike = first.source == "traced" and not square and not half.states
    return first, first.times(2, "float32") if alike else replace(half, dtype="float32").activations(first)


def fields_of(config: Any) -> dict[str, Any]:
    """The fields that ``kv_cache`` reads, of the decoder, with transformers' defaults filled in."""
    if not config.is_encoder_decoder:  # there, this would rename the decoder's fields
        config = config.get_text_config(decoder=True)
    fields = {name: getattr(config, name, None) for name in _FIELDS}
    if fields["num_key_value_heads"] is None:
        fields["num_key_value_heads"] = getattr(config, "num_kv_heads", None)  # Falcon's name
    fields["head_dim"] = fields["head_dim"] or getattr(config, "d_kv", None)  # Switch's
    heads = fields["decoder_attention_heads"]
    fields["decoder_attention_heads"] = heads or getattr(config, "num_decoder_attention_heads", None)  # ProphetNet's
    if not hasattr(config, "multi_query"):
        del fields["multi_query"]
    if fields["num_hidden_layers"] is not None and not fields["is_encoder_decoder"]:
        types, settings = get_layer_types_and_kwargs(config)
        fields |= {"layer_types": types, "windows": [one.get("sliding_window") for one in settings]}
    return fields | {"attention": getattr(config, "_attn_implementation", None) or "sdpa"}


def _trained(config: Any) -> int | None:
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


@dataclass(slots=True)
class _Tracer:
    """A model in one dtype, with what its config says of its cache; ``cpu``, ``unfused`` as in ``trace.Attention``."""

    found: Checkpoint
    dtype: str
    cache: tuple[CacheLayers, ...]
    states: tuple[State, ...]
    fields: Mapping[str, Any]
    cpu: bool = False
    unfused: bool = False

    def activations(self, half: Activations | None = None) -> Activations:
        """From traces; from a formula where a forward cannot be traced, or twice ``half``, those of bf16.

        Raises:
            UnsupportedModel: transformers caches other bytes than the config foretells, which then would be wrong.
        """
        try:
            with torch.device("meta"):
                kind, config = tasks.model_class(self.found), tasks.read_config(self.found)
                model = kind._from_config(config, dtype=getattr(torch, self.dtype)).eval()
            return self._traced(model, config)
        except QfundError:
            raise
        except Exception:  # a model's code may raise anything where it looks at values, which meta has not
            if half is not None:  # meta's grouped product of experts takes bf16 only
                return half.times(2, self.dtype)
            return formula(self.fields, self.dtype)

    def _traced(self, model: Any, config: Any) -> Activations:
        widest = max((row.window for row in self.cache if row.window is not None), default=0)
        contexts = [_SHORT, _MIDDLE, max(_LONG, 2 * widest)]
        if self.states:
            contexts = [_EACH if self.fields["model_type"] in _TOKEN_BY_TOKEN else _BLOCK]
        try:
            last = [self._phase(model, context) for context in contexts]
        except (RuntimeError, IndexError):  # more tokens than it has positions for
            contexts = [max(1, (_trained(config.get_text_config(decoder=True)) or _SHORT) // 4)]
            last = [self._phase(model, contexts[0])]
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        every = [self._phase(model, contexts[-1], all_logits=True)] if keeps else []
        return Activations(self.dtype, tuple(last), tuple(every), "traced")

    def _phase(self, model: Any, context: int, all_logits: bool = False) -> Phase:
        one, two = (self._held(model, 1, tokens, all_logits) for tokens in (context, 2 * context))
        grows = two > 2.01 * one  # faster than the tokens: something has their square, for each sequence or for all
        if context == _SHORT and not grows:  # what does not grow, as the logits of the last token, would count for many
            return Phase(max(0, two - one) / context)
        doubled = self._held(model, 2, 2 * context, all_logits) if grows else 2 * two
        return fitted(context, one, two, doubled)

    def _held(self, model: Any, batch: int, context: int, all_logits: bool) -> int:
        """Bytes at the peak, without the cache, which is there in whole: windows are cut off after they were read."""
        cached = bool(self.cache or self.states)
        found = trace(model, batch, context, cached, all_logits, self.cpu)
        self.unfused |= found.unfused
        foretold = self._foretold(batch, context)
        if cached and foretold != found.cached:
            raise UnsupportedModel(
                f"{self.found.architecture} caches {found.cached:,} bytes for {batch:,} × {context:,} tokens; its "
                f"config foretells {foretold:,}. qfund does not know how this model caches.",
                "Choose another model.",
            )
        return found.peak - self._bytes([replace(row, window=None) for row in self.cache], batch, context)

    def _foretold(self, batch: int, context: int) -> int:
        """The cache right after a prompt: a window keeps one token less than it sees, since the next is to come."""
        kept = [replace(row, window=None if row.window is None else row.window - 1) for row in self.cache]
        return self._bytes(kept, batch, context)

    def _bytes(self, cache: Iterable[CacheLayers], batch: int, context: int) -> int:
        kv = KV_FORMATS[KV_OF[self.dtype]]
        return kv_bytes(cache, batch, context, kv) + state_bytes(self.states, batch, self.dtype)


def fitted(context: int, one: float, two: float, doubled: float) -> Phase:
    """The phase that holds these bytes at ``context`` tokens, at twice as many, and at twice as many in two sequences.

    Nothing falls below zero: what does not grow with the tokens is taken to.
    """
    square = max(0.0, (two - 2 * one) / (2 * context**2))
    token = (two - square * 4 * context**2) / (2 * context)
    if token < 0:
        square, token = two / (4 * context**2), 0.0
    shared = min(max(0.0, (2 * two - doubled) / (4 * context**2)), square)
    return Phase(token, square - shared, shared)
