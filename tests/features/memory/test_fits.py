"""Will it fit: bytes by hand, against transformers' own caches, against forwards that run; and requests to refuse."""

import argparse
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from qfund.checkpoints import checkpoint
from qfund.commandline.parser import parse
from qfund.core.errors import InvalidSpec, QfundError, UnknownName, UnsupportedModel
from qfund.features.memory import words
from qfund.features.memory.measure import trace
from qfund.features.memory.measure.fits import fits
from qfund.features.memory.measure.shape import fields_of, fitted, shape_of
from qfund.features.memory.request import advice, budgets, sizing
from qfund.features.memory.request.advice import choose, ranked
from qfund.features.memory.request.budgets import GPUS, parse_budget
from qfund.features.memory.request.fits import (
    DEFAULT_PRECISIONS,
    PARTS,
    Activations,
    Fits,
    FitsRequest,
    Phase,
    Shape,
    Weights,
    Workload,
    checked,
    to_json,
)
from qfund.features.memory.request.kv_cache import (
    KV_OF,
    CacheLayers,
    cache_of,
    kv_bytes,
    state_bytes,
)
from qfund.features.memory.request.sizing import longest_context, rows, total_bytes
from qfund.models import tasks
from qfund.models.skeleton import predict
from qfund.precisions.caches import KV_CHOICES, KV_FORMATS
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints

GIB = 1024**3

# By hand.

LLAMA_3_8B = transformers.LlamaConfig(
    hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192
)
LLAMA_2_7B = transformers.LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)
GEMMA_3_4B = transformers.Gemma3TextConfig(
    hidden_size=2560,
    num_hidden_layers=34,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    sliding_window=1024,
)


def _per_config(config: Any, batch: int, context: int, kv: str = "fp16") -> int:
    cache, states = cache_of(fields_of(config))
    assert not states
    return kv_bytes(cache, batch, context, KV_FORMATS[kv])


def test_llama_3_8b_takes_128_kib_a_token_and_llama_2_7b_512() -> None:
    assert _per_config(LLAMA_3_8B, 1, 1) == 2 * 32 * 8 * 128 * 2 == 131_072
    assert _per_config(LLAMA_2_7B, 1, 1) == 2 * 32 * 32 * 128 * 2 == 524_288
    assert _per_config(LLAMA_3_8B, 4, 8192) == 4 * GIB
    assert _per_config(LLAMA_3_8B, 1, 8192, "fp32") == 2 * GIB


def test_gemma_3_keeps_a_window_in_five_layers_of_six() -> None:
    a_layer = 2 * 4 * 256 * 2  # bytes a token
    assert _per_config(GEMMA_3_4B, 1, 8192) == a_layer * (5 * 8192 + 29 * 1024) == 289_406_976
    assert _per_config(GEMMA_3_4B, 1, 1000) == a_layer * 34 * 1000


def test_deepseek_v3_caches_a_latent_and_one_rotary_key() -> None:
    config = transformers.DeepseekV3Config()  # its defaults are the 671-billion-parameter model
    assert _per_config(config, 1, 1, "bf16") == 61 * (512 + 64) * 2 == 70_272


def test_mistral_7b_is_capped_at_its_window() -> None:
    config = transformers.MistralConfig(sliding_window=4096)
    assert _per_config(config, 1, 4096) == _per_config(config, 1, 32_768) == 131_072 * 4096


@pytest.mark.parametrize("window", [-1, 0])
def test_a_window_of_no_tokens_is_told_as_such(window: int) -> None:
    with pytest.raises(UnsupportedModel, match=f"mistral says sliding_window = {window}, which is no positive"):
        cache_of(fields_of(transformers.MistralConfig(sliding_window=window)))


def test_t5_caches_what_it_wrote_and_what_it_read() -> None:
    config = transformers.T5Config(d_model=512, d_kv=64, num_layers=6, num_heads=8)
    assert _per_config(config, 1, 100) == 2 * 6 * (2 * 8 * 64) * 100 * 2


def test_mamba_keeps_a_state_and_no_cache() -> None:
    config = transformers.MambaConfig(hidden_size=768, num_hidden_layers=24, state_size=16)
    cache, states = cache_of(fields_of(config))
    assert not cache
    # A convolution over 4 inputs in the model's dtype, a scan of 16 in fp32, for each of 2 × 768 channels.
    assert state_bytes(states, 3, "bfloat16") == 3 * 24 * 1536 * (4 * 2 + 16 * 4)


@pytest.mark.parametrize(("kv", "bits"), [("fp32", 32), ("fp16", 16), ("bf16", 16), ("int8", 8.5), ("int4", 4.5)])
def test_kv_formats_by_hand(kv: str, bits: float) -> None:
    assert _per_config(LLAMA_3_8B, 1, 1024, kv) == 1024 * 65_536 * bits / 8


def test_fp8_has_two_scales_a_layer() -> None:
    assert _per_config(LLAMA_3_8B, 1, 1024, "fp8") == 1024 * 65_536 + 32 * 2 * 4


# Against transformers' own caches.

_DECODER: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_DECODER, "num_key_value_heads": 2}
_LATENT = {
    **_DECODER,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "num_experts_per_tok": 2,
}
_GROUPS = {"n_group": 2, "topk_group": 1}
_SCAN = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 2}
_DELTA = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
_EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
_ALTERNATE = ["sliding_attention", "full_attention"]

#: Class of a model, and what its config says.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _GROUPED),
    "mistral": ("Mistral", {**_GROUPED, "sliding_window": 5}),
    "qwen2": ("Qwen2", {**_GROUPED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2-no-window": ("Qwen2", {**_GROUPED, "use_sliding_window": False, "sliding_window": 5}),
    "qwen3": ("Qwen3", {**_GROUPED, "head_dim": 12}),
    "gemma2": ("Gemma2", {**_GROUPED, "head_dim": 8, "sliding_window": 5}),
    "gpt-oss": ("GptOss", {**_GROUPED, "head_dim": 8, "sliding_window": 5, "num_local_experts": 4}),
    "gpt2": ("GPT2", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}),
    "gpt-neox": ("GPTNeoX", _DECODER),
    "opt": ("OPT", {**_DECODER, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 32}),
    "bloom": ("Bloom", {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon-multi-query": ("Falcon", {**_DECODER, "multi_query": True}),
    "falcon-new": ("Falcon", {**_DECODER, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "gpt-bigcode": ("GPTBigCode", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48}),
    "mixtral": ("Mixtral", {**_GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "deepseek-v2": ("DeepseekV2", _LATENT),
    "deepseek-v3": ("DeepseekV3", {**_LATENT, **_GROUPS}),
    "deepseek-v3.2": (
        "DeepseekV32",
        {**_LATENT, **_GROUPS, "index_head_dim": 8, "index_n_heads": 2, "index_topk": 4},
    ),
    "mamba": ("Mamba", {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "mamba2": (
        "Mamba2",
        {
            **{"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
            **{"num_heads": 8, "head_dim": 8, "n_groups": 2},
        },
    ),
    "jamba": (
        "Jamba",
        {
            **_GROUPED,
            **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
            **{"num_experts": 2, "mamba_d_state": 4, "mamba_dt_rank": 4},
        },
    ),
    "zamba2": (
        "Zamba2",
        {
            **_DECODER,
            **{"num_hidden_layers": 3, "num_key_value_heads": 4, "n_mamba_heads": 8, "mamba_d_state": 4},
            **{"mamba_ngroups": 1, "layers_block_type": ["linear_attention", "hybrid", "linear_attention"]},
        },
    ),
    "bamba": ("Bamba", {**_GROUPED, **_SCAN, "attn_layer_indices": [1]}),
    "falcon-h1": ("FalconH1", {**_GROUPED, **_SCAN, "mamba_d_ssm": 64}),
    "qwen3-next": (
        "Qwen3Next",
        {**_GROUPED, **_DELTA, **_EXPERTS, "head_dim": 8, "shared_expert_intermediate_size": 16},
    ),
    "lfm2": ("Lfm2", {**_GROUPED, "layer_types": ["conv", "full_attention"]}),
    "lfm3": ("Lfm3", {**_GROUPED, "layer_types": ["conv", "full_attention"]}),
    "jetmoe": (
        "JetMoe",
        {
            **{"vocab_size": 99, "num_hidden_layers": 2, "hidden_size": 32, "num_key_value_heads": 4},
            **{"kv_channels": 8, "intermediate_size": 48, "num_local_experts": 4, "num_experts_per_tok": 2},
        },
    ),
    "granitemoe": ("GraniteMoe", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "t5": ("T5", {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}),
    "bart": (
        "Bart",
        {
            **{"vocab_size": 99, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 48},
            **{"encoder_attention_heads": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48},
        },
    ),
}
_HEADS = {"GPT2": "LMHeadModel", **dict.fromkeys(("T5", "Bart"), "ForConditionalGeneration")}


def _model(name: str, dtype: torch.dtype) -> Any:
    kind, settings_ = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings_)
    return getattr(transformers, kind + _HEADS.get(kind, "ForCausalLM"))._from_config(config, dtype=dtype).eval()


def _written(model: Any, batch: int, context: int) -> Any:
    """What a model holds after a prompt and one token more, ``context`` together."""
    ids = torch.ones((batch, context), dtype=torch.int64)
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            first = model(input_ids=ids, decoder_input_ids=ids[:, :-1], use_cache=True)
            hidden = (first.encoder_last_hidden_state,)
            return model(
                encoder_outputs=hidden,
                decoder_input_ids=ids[:, -1:],
                past_key_values=first.past_key_values,
                use_cache=True,
            )
        cache = DynamicCache(config=model.config)
        key = "cache_params" if "Mamba" in type(model).__name__ else "past_key_values"
        model(input_ids=ids[:, :-1], use_cache=True, **{key: cache})
        return model(input_ids=ids[:, -1:], use_cache=True, **{key: cache})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_caches_have_the_bytes_of_transformers_own(name: str, dtype: str) -> None:
    """Every storage behind the cache, in a model that has written: a window holds as many tokens as it sees."""
    model = _model(name, getattr(torch, dtype))
    cache, states = cache_of(fields_of(model.config))
    for batch, context in ((1, 4), (2, 11)):
        out = _written(model, batch, context)
        foretold = kv_bytes(cache, batch, context, KV_FORMATS[KV_OF[dtype]]) + state_bytes(states, batch, dtype)
        assert _storages(out) == foretold


def _storages(output: Any) -> int:
    found = getattr(output, "past_key_values", None)
    found = found if found is not None else output.cache_params
    tensors: dict[int, int] = {}

    def collect(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            tensors[storage.data_ptr()] = storage.nbytes() if one.is_floating_point() else 0
        elif isinstance(one, dict):
            for value in one.values():
                collect(value)
        elif isinstance(one, list | tuple):
            for value in one:
                collect(value)
        elif type(one).__module__.startswith("transformers."):
            collect(vars(one))

    collect(found)
    return sum(tensors.values())


def test_fp8_has_the_bytes_of_transformers_own_quantized_cache() -> None:
    model = _model("llama", torch.bfloat16)
    cache: Any = transformers.QuantizedCache("fp8", model.config)
    with torch.no_grad():
        model(input_ids=torch.ones((2, 7), dtype=torch.int64), past_key_values=cache)
    held = [
        tensor for layer in cache.layers for pair in (layer._quantized_keys, layer._quantized_values) for tensor in pair
    ]
    foretold, _ = cache_of(fields_of(model.config))
    assert sum(tensor.nbytes for tensor in held) == kv_bytes(foretold, 2, 7, KV_FORMATS["fp8"])


# Activations against forwards that run.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name",
    [
        *("llama", "gpt2", "gemma2", "mistral", "falcon-multi-query", "bloom", "t5", "bart"),
        *("jetmoe", "granitemoe"),  # these ask how many rows each expert is given
    ],
)
def test_activations_are_near_those_of_a_forward_that_runs(name: str, dtype: str, tmp_path: Path) -> None:
    kind, settings_ = MODELS[name]
    wide = {key: value * 4 for key, value in settings_.items() if key in _WIDTHS}
    context = 24 if name in ("gpt2",) else 96
    config = getattr(transformers, f"{kind}Config")(**(settings_ | wide))
    model = getattr(transformers, kind + _HEADS.get(kind, "ForCausalLM"))._from_config(config).eval()
    model.save_pretrained(tmp_path)
    found = checkpoint.read(tmp_path)
    shape = shape_of(found, tasks.task_of(found), [dtype])
    measured = peak_of_a_run(model.to(getattr(torch, dtype)), 2, context)
    cached = kv_bytes(shape.cache, 2, context, KV_FORMATS[KV_OF[dtype]])
    alive = sizing.activations_of(shape, dtype)
    assert shape.checked and alive.source == "traced"
    cached += sizing.behind_windows(shape, 2, context, dtype)
    ratio = (alive.bytes(2, context) + cached) / measured
    assert 0.95 < ratio < 1.06, ratio


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("values", [8, 16])
def test_a_cpu_makes_score_matrices_where_heads_differ_in_width(values: int, dtype: torch.dtype) -> None:
    """Of 2 sequences, 4 heads and 64 tokens: two matrices of scores in fp32 and a mask of them."""

    def peak(cpu: bool) -> tuple[int, bool]:
        query, key, value = (torch.empty(2, 4, 64, width, dtype=dtype, device="meta") for width in (16, 16, values))
        with torch.no_grad(), trace.Attention(cpu) as attention, trace.LiveBytes() as live:
            torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return live.peak, attention.unfused

    out = 2 * 4 * 64 * values * dtype.itemsize
    assert peak(False) == (out, values != 16)
    scores = 2 * 4 * 64 * 64
    least, unfused = peak(True)
    assert unfused == (values != 16)
    if unfused:
        assert 9 * scores <= least <= 9 * scores + 4 * (2 * 4 * 64 * (16 + 16 + 16 + 8))
    else:
        assert least == out


def test_latent_attention_takes_its_scores_on_a_cpu_only(tmp_path: Path) -> None:
    """Bytes for every pair of tokens by hand: 4 heads with two fp32 matrices and a mask, and what one mask takes."""
    torch.manual_seed(0)
    settings_ = {**MODELS["deepseek-v3"][1], "max_position_embeddings": 16_384}
    transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**settings_)).save_pretrained(tmp_path)
    found = checkpoint.read(tmp_path)
    shape = shape_of(found, tasks.task_of(found), ["float32", "bfloat16"])
    assert [row.dtype for row in shape.on_cpu] == ["bfloat16", "float32"]
    assert {row.source for row in (*shape.activations, *shape.on_cpu)} == {"traced"}
    for dtype in ("float32", "bfloat16"):
        on_gpu, on_cpu = (sizing.activations_of(shape, dtype, runtime) for runtime in ("cuda", "cpu"))
        assert 4 * 9 <= (on_cpu.bytes(1, 8192) - on_gpu.bytes(1, 8192)) / 8192**2 <= 4 * 9 + 8
    (cpu,), (gpu,) = (rows(shape, WEIGHTS[1:2], Workload(2**40, 8192, runtime=name)) for name in ("cpu", "cuda"))
    assert cpu.activations.bytes > 4 * 9 * 8192**2 > gpu.activations.bytes
    assert longest_context(shape, WEIGHTS[1], Workload(16 * GIB, runtime="cpu")) < 25_000


def test_activations_between_the_traces_are_those_of_a_trace(tmp_path: Path) -> None:
    """A window's mask takes its share of a thousand tokens, and logits that do not grow are not counted for each."""
    config = transformers.MistralConfig(
        **{**_GROUPED, "vocab_size": 50_000, "hidden_size": 128, "intermediate_size": 352, "sliding_window": 256}
    )
    with torch.device("meta"):
        model = transformers.MistralForCausalLM._from_config(config, dtype=torch.bfloat16).eval()
    transformers.MistralForCausalLM(config).save_pretrained(tmp_path)
    found = checkpoint.read(tmp_path)
    shape = shape_of(found, tasks.task_of(found), ["bfloat16"])
    for context in (700, 1024, 2048, 3000):
        cached = kv_bytes(shape.cache, 1, context, KV_FORMATS["bf16"])
        cached += sizing.behind_windows(shape, 1, context, "bfloat16")
        said = sizing.activations_of(shape, "bfloat16").bytes(1, context) + cached
        assert said == pytest.approx(trace.trace(model, 1, context).peak, rel=0.03), context


def test_models_whose_attention_is_fused_everywhere_are_traced_once() -> None:
    found = checkpoint.read(checkpoints.folder("llama"))
    assert not shape_of(found, tasks.task_of(found), ["float32"]).on_cpu


_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "n_embd",
    "d_model",
    "d_ff",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "ffn_dim",
)


def peak_of_a_run(model: Any, batch: int, context: int) -> int:
    """Bytes of the storages that live at once while the model reads a prompt on the CPU."""
    ids = torch.ones((batch, context), dtype=torch.int64)
    options: dict[str, Any] = {"input_ids": ids, "use_cache": True}
    options |= {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {"logits_to_keep": 1}
    live = trace.LiveBytes()
    with torch.no_grad(), live:
        model(**options)
    return live.peak


def test_the_counter_counts_what_lives_and_counts_it_once() -> None:
    with trace.LiveBytes() as live:
        one = torch.zeros(100)
        view = one[10:].view(9, 10)
        two = one + 1
        assert live.now == 800
        del one
        assert live.now == 800  # the view holds it
        del view
        assert (live.now, live.peak) == (400, 800)
        two.add_(1)
        del two
    assert (live.now, live.peak) == (0, 800)


@settings(deadline=None)
@given(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(0, 1e3), st.integers(1, 5000))
def test_three_points_give_the_phase_back(token: float, square: float, shared: float, context: int) -> None:
    phase = Phase(token, square, shared)
    points = (phase.bytes(1, context), phase.bytes(1, 2 * context), phase.bytes(2, 2 * context))
    again = fitted(context, *points)
    for batch, tokens in ((1, context), (5, 3 * context)):
        assert again.bytes(batch, tokens) == pytest.approx(phase.bytes(batch, tokens), rel=1e-5, abs=1e-3)


def test_a_cache_that_is_not_the_foretold_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lambda fields: ((CacheLayers("full attention", 2, 16, 15),), ())  # noqa: E731
    monkeypatch.setattr("qfund.features.memory.measure.shape.cache_of", wrong)
    found = checkpoint.read(checkpoints.folder("llama"))
    with pytest.raises(UnsupportedModel, match="does not know how this model caches"):
        shape_of(found, tasks.task_of(found), ["float32"])


# The arithmetic.

SHAPE = Shape(
    cache=(CacheLayers("full attention", 2, 64, 64), CacheLayers("sliding window", 6, 64, 64, 1024)),
    states=(),
    activations=tuple(
        Activations(dtype, (Phase(size * 3000.0), Phase(size * 2000.0, 0.5, 0.25)), (Phase(size * 40_000.0),), "traced")
        for dtype, size in (("float32", 4), ("bfloat16", 2))
    ),
    trained=32_768,
    checked=True,
)
WEIGHTS = tuple(
    Weights(
        name, int(1e9 * PRECISIONS[name].effective_bits / 8), {}, 0 if PRECISIONS[name].quantizer is None else 10**7
    )
    for name in ("fp64", "fp32", "bf16", "fp16", "int8_bf16", "int4_bf16", "int2_bf16")
)
_workloads = st.builds(
    Workload,
    budget=st.integers(2**20, 2**44),
    context=st.integers(1, 2**20),
    batch=st.integers(1, 64),
    kv=st.sampled_from([None, *KV_CHOICES]),
    runtime=st.sampled_from(["cpu", "cuda"]),
    all_logits=st.booleans(),
)


@settings(deadline=None)
@given(_workloads, st.sampled_from(WEIGHTS))
def test_the_longest_context_fits_and_one_token_more_does_not(workload: Workload, weights: Weights) -> None:
    longest = longest_context(SHAPE, weights, workload)
    if longest:
        assert total_bytes(SHAPE, weights, workload, longest) <= workload.budget
    assert total_bytes(SHAPE, weights, workload, longest + 1) > workload.budget
    (row,) = rows(SHAPE, [weights], workload)
    assert row.fits == (longest >= workload.context)


@settings(deadline=None)
@given(_workloads, st.integers(1, 2**20), st.integers(1, 64))
def test_more_work_is_never_less_and_more_budget_never_fits_fewer(workload: Workload, more: int, twice: int) -> None:
    before = rows(SHAPE, WEIGHTS, workload)
    for harder in (replace(workload, context=workload.context + more), replace(workload, batch=workload.batch + twice)):
        for one, two in zip(before, rows(SHAPE, WEIGHTS, harder), strict=True):
            assert two.total.bytes >= one.total.bytes and two.kv_cache.bytes >= one.kv_cache.bytes
    for one, two in zip(before, rows(SHAPE, WEIGHTS, replace(workload, budget=workload.budget + more)), strict=True):
        assert two.fits >= one.fits and two.longest_context >= one.longest_context


@settings(deadline=None)
@given(_workloads)
def test_parts_sum_to_the_total_and_say_what_they_are(workload: Workload) -> None:
    for row in rows(SHAPE, WEIGHTS, workload):
        parts = {name: getattr(row, name) for name in PARTS}
        assert sum(part.bytes for part in parts.values()) == row.total.bytes == workload.budget - row.headroom
        assert {name for name, part in parts.items() if part.how == sizing.EXACT} == {
            "weights",
            "kv_cache",
            "state",
        }
        assert row.total.how == sizing.ESTIMATE and row.fits == (row.headroom >= 0)


def test_a_quantized_cache_is_smaller_and_a_cache_in_fp32_is_twice_one_in_fp16() -> None:
    def cached(kv: str | None) -> int:
        return rows(SHAPE, WEIGHTS[2:3], Workload(8 * GIB, kv=kv))[0].kv_cache.bytes

    assert cached("int4") < cached("fp8") < cached("int8") < cached("fp16") == cached("bf16") == cached(None)
    assert cached("fp32") == 2 * cached("fp16")


@settings(deadline=None)
@given(_workloads, st.sampled_from(["F32", "BF16", "F16"]))
def test_the_choice_fits_and_nothing_that_is_ranked_before_it_does(workload: Workload, stored: str) -> None:
    table = rows(SHAPE, WEIGHTS, workload)
    found = choose(table, workload, {stored: 100})
    fitting = {row.precision for row in table if row.fits}
    if found.precision is None:
        assert not fitting and "Nothing fits" in found.sentence
    else:
        order = ranked((row.precision for row in table), {stored: 100})
        assert found.precision in fitting
        assert not fitting & set(order[: order.index(found.precision)])


def test_the_ranking() -> None:
    names = ("nf4_bf16", "int8_dynamic_bf16", "int8_bf16", "int8", "fp16", "bf16", "fp32", "fp64")
    assert ranked(names, {"F32": 9}) == [
        *("fp32", "bf16", "fp16", "int8", "int8_bf16", "int8_dynamic_bf16", "nf4_bf16", "fp64")
    ]
    assert ranked(names, {"F16": 9})[:2] == ["fp16", "bf16"]
    assert ranked(names, {"BF16": 9, "F32": 1})[-2:] == ["fp32", "fp64"]


def test_more_bits_than_the_checkpoint_stores_are_not_recommended() -> None:
    plenty = Workload(2**44)
    found = choose(rows(SHAPE, WEIGHTS, plenty), plenty, {"BF16": 1})
    assert found.precision == "bf16" and "same values in more bytes" in found.sentence
    alone = rows(SHAPE, WEIGHTS[:2], plenty)
    assert choose(alone, plenty, {"BF16": 1}).precision == "fp32"


def test_a_coarse_choice_says_so() -> None:
    tight = Workload(int(1.2 * GIB), context=16)
    found = choose(rows(SHAPE, WEIGHTS, tight), tight, {"F32": 1})
    assert found.precision is not None
    assert ("coarse" in found.sentence) == (PRECISIONS[found.precision].sqnr_floor < advice.POOR)


# What is asked.


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("24GiB", 24 * GIB), ("24 gb", 24 * 10**9), ("512MiB", 512 * 2**20), ("1.5GiB", 3 * GIB // 2)),
        *(("25769803776", 24 * GIB), ("2tib", 2 * 2**40), ("1048576 B", 2**20)),
    ],
)
def test_budgets(text: str, count: int) -> None:
    assert parse_budget(text) == count


@pytest.mark.parametrize(
    "text", ["0", "0GiB", "-1GiB", "inf", "nan", "", "much", "24", "24G", "1e9", "9" * 30 + "GiB", "1,5GiB", "٣GiB"]
)
def test_senseless_budgets_are_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="budget"):
        parse_budget(text)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_budget_is_anything_but_bytes_or_a_refusal(text: str) -> None:
    with contextlib.suppress(InvalidSpec):
        assert 2**20 <= parse_budget(text) <= 2**50


@pytest.mark.parametrize(
    "changes", [{"context": 0}, {"context": -5}, {"batch": 0}, {"batch": 10**9}, {"context": 2**40}, {"budget": 0}]
)
def test_numbers_out_of_range_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InvalidSpec, match=r"context|batch|budget"):
        checked(FitsRequest("dummy", replace(Workload(GIB), **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        FitsRequest("dummy", Workload(GIB, kv="int3")),
        FitsRequest("dummy", Workload(GIB, kv="fp64")),
        FitsRequest("dummy", Workload(GIB, runtime="tpu")),
        FitsRequest("dummy", Workload(GIB), precisions=("bf61",)),
        FitsRequest("dummy", Workload(GIB), also=("norms",)),
    ],
)
def test_unknown_names_are_told(request_: FitsRequest) -> None:
    with pytest.raises(UnknownName):
        checked(request_)


def test_a_checked_request_is_canonical_and_survives_json() -> None:
    asked = FitsRequest(
        " dummy ", Workload(GIB, kv="int8"), precisions=("int8", "fp32", "int8"), also=("head",), revision=""
    )
    found = checked(asked)
    assert (found.model, found.precisions, found.revision) == ("dummy", ("fp32", "int8"), None)
    assert checked(found) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=FitsRequest) == found


def test_gpus_are_ascending_below_what_is_on_the_box_and_found_by_either_spelling() -> None:
    sizes = [gpu.bytes for gpu in GPUS.values()]
    assert max(sizes) > 170 * GIB and min(sizes) < 8 * GIB
    for gpu in GPUS.values():
        advertised = float(gpu.title.rpartition(", ")[2].removesuffix(" GB"))
        assert 0.89 * advertised * 10**9 < gpu.bytes <= advertised * GIB


def test_the_machine_is_asked_for_its_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.write_text("0::/jobs/mine\n")
    inner = tmp_path / "jobs" / "mine"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("5\n")
    (inner.parent / "memory.max").write_text(f"{GIB}\n")
    (inner.parent / "memory.current").write_text(f"{GIB // 2}\n")
    (inner.parent / "memory.stat").write_text("anon 3\ninactive_file 100\n")
    assert [*budgets._left_in_groups(tmp_path, own)] == [GIB // 2 + 100]
    monkeypatch.setattr(budgets, "_available", lambda: None)
    monkeypatch.setattr(budgets, "_left_in_groups", lambda: iter(()))
    with pytest.raises(InvalidSpec, match="does not say"):
        budgets.machine_memory()


def test_this_machine_has_memory() -> None:
    assert 2**26 < budgets.machine_memory() < 2**46


# Configs that make no sense.


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"hidden_size": 32, "num_attention_heads": 4}, "num_hidden_layers"),
        ({"num_hidden_layers": 2, "hidden_size": 32}, "num_attention_heads"),
        ({"num_hidden_layers": 2, "num_attention_heads": 4}, "hidden_size"),
        ({"num_hidden_layers": -2, "num_attention_heads": 4, "hidden_size": 8}, "num_hidden_layers = -2"),
        ({"num_hidden_layers": "two", "num_attention_heads": 4, "hidden_size": 8}, "num_hidden_layers = 'two'"),
        ({"layer_types": ["sliding_attention"], "num_attention_heads": 4, "hidden_size": 8}, "sliding_window"),
        ({"layer_types": ["telepathy"], "num_attention_heads": 4, "hidden_size": 8}, "telepathy"),
        ({"layer_types": ["linear_attention"], "model_type": "new"}, "state of a new"),
        ({"model_type": "rwkv"}, "rwkv"),
    ],
)
def test_a_config_without_the_fields_is_refused_by_their_names(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        cache_of(config)


# The whole measure, and the command.


def _command(*words: str) -> tuple[argparse.Namespace, Any]:
    options = parse(["fits", *words])
    return options, options.run


def test_the_measure_is_made_of_exact_weights_and_pure_arithmetic() -> None:
    asked = FitsRequest(str(checkpoints.folder("gemma2")), Workload(2 * GIB, context=64), ("fp32", "bf16", "int4_bf16"))
    phases = []
    found = fits(asked, lambda phase, share: phases.append((phase, share)))
    read = checkpoint.read(checkpoints.folder("gemma2"))
    for one in found.weights:
        assert one.bytes == predict(read, PRECISIONS[one.precision]).bytes == sum(one.parts.values())
        assert (one.dequantised > 0) == (one.precision == "int4_bf16")
    assert found.rows == rows(found.shape, found.weights, asked.workload)
    assert found.shape.checked and found.stored.keys() == {"F32"} and found.choice.precision == "fp32"
    assert phases and all(0 <= share <= 1 for _, share in phases)
    assert msgspec.json.decode(to_json(found), type=Fits) == found
    longer = fits(replace(asked, workload=replace(asked.workload, context=65)))
    assert not found.warnings and "beyond" in longer.warnings[0]
    quantized = fits(replace(asked, workload=replace(asked.workload, kv="int8")))
    assert "full attention only" in quantized.warnings[0]


@pytest.mark.parametrize("name", ["bert-masked", "bert-encoder", "gpt2-classifier", "t5-encoder"])
def test_a_model_that_generates_nothing_caches_nothing(name: str) -> None:
    found = fits(FitsRequest(str(checkpoints.folder(name)), Workload(GIB, context=16), ("fp32",)))
    (row,) = found.rows
    assert (row.kv_cache.bytes, row.state.bytes) == (0, 0) and row.activations.bytes > 0 and row.longest_context > 16
    assert "caches nothing" in found.notes[0]


def test_a_model_that_reads_pictures_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="reads pictures"):
        fits(FitsRequest(str(checkpoints.folder("vit-classifier")), Workload(GIB)))


def test_the_lessons_model_has_no_cache_and_a_row_all_the_same() -> None:
    found = fits(FitsRequest("dummy", Workload(GIB, context=2), ("fp32", "bf16")))
    assert [(row.precision, row.kv_cache.bytes) for row in found.rows] == [("fp32", 0), ("bf16", 0)]


def test_the_command_prints_a_table_and_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    options, run = _command(str(checkpoints.folder("llama")), "--budget", "1GiB", "--context", "32", "--batch", "2")
    run(options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:2] == ["precision", "weights"] and "KV cache" in lines[2]
    assert [line.split()[0] for line in lines[3 : 3 + len(DEFAULT_PRECISIONS)]] == [*DEFAULT_PRECISIONS]
    assert any(line.startswith("Choose FP32 (fp32): the least lossy that fits") for line in lines)


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    options, run = _command(str(checkpoints.folder("mamba")), "--gpu", "t4", "--precision", "bf16,int8", "--json")
    run(options)
    document = json.loads(capsys.readouterr().out)
    assert [row["precision"] for row in document["rows"]] == ["bf16", "int8"]
    assert document["rows"][0]["kv_cache"] == {"bytes": 0, "how": "exact"}
    assert document["rows"][0]["state"]["bytes"] == 2 * 64 * 4 * (2 + 4)
    assert document["request"]["workload"]["budget"] == GPUS["t4"].bytes


def test_the_command_refuses_before_it_loads_anything() -> None:
    for arguments in (["--budget", "0"], ["--gpu", "voodoo2"], ["--budget", "1GiB", "--kv", "int7"]):
        options, run = _command("dummy", *arguments)
        with pytest.raises(QfundError) as caught:
            run(options)
        assert caught.value.exit_code == 2
    with pytest.raises(QfundError, match="--budget --gpu is required"):
        _command("dummy")


def test_the_command_tells_of_every_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _command("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert all(name.replace("-", "") in said.replace("-", "").replace(" ", "") for name in GPUS)


def test_contexts_beyond_what_a_model_was_made_for_are_said_to_be() -> None:
    def row(longest: int) -> Any:
        return SimpleNamespace(longest_context=longest)

    shape: Any = SimpleNamespace(trained=256)
    assert words.beyond_training([row(100), row(256)], shape) is None
    said = words.beyond_training([row(100), row(257)], shape)
    assert said is not None and "made for 256 positions" in said
    assert words.beyond_training([row(10**9)], SimpleNamespace(trained=None)) is None  # type: ignore[arg-type]


def test_the_heap_of_a_cpu_is_warned_of_and_a_gpu_has_none() -> None:
    (said,) = words.heap(Workload(GIB, runtime="cpu"))
    assert "twice the activations" in said and "MALLOC_MMAP_THRESHOLD_=131072" in said
    assert not words.heap(Workload(GIB, runtime="cuda"))
