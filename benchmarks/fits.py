"""Estimated activations beside the peaks of processes: ``python -m benchmarks.fits [NAME …] [--contexts N …]``.

Random models of a few layers, on the CPU, with contexts so long that activations dominate. *Foretold* is what ``qfund
fits`` says for this workload on a CPU (activations, cache and state), from traces without weights; *measured* is by how
much a fresh process that runs plain transformers grew (``benchmarks.peak``).
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import transformers

from benchmarks import peak
from qfund.checkpoints import checkpoint
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.units import bytes_text
from qfund.features.memory.measure.shape import shape_of
from qfund.features.memory.request.fits import Shape
from qfund.features.memory.request.kv_cache import KV_OF, kv_bytes, state_bytes
from qfund.features.memory.request.sizing import activations_of, behind_windows
from qfund.models import tasks
from qfund.precisions.caches import KV_FORMATS

_SIZES: dict[str, Any] = {
    **{"vocab_size": 32_000, "num_hidden_layers": 3, "hidden_size": 256, "num_attention_heads": 8},
    **{"max_position_embeddings": 8192, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
_WIDE: dict[str, Any] = {**_SIZES, "intermediate_size": 704, "num_key_value_heads": 2}
_PLAIN: dict[str, Any] = {**_SIZES, "intermediate_size": 1024}
_LATENT: dict[str, Any] = {
    **_SIZES,
    **{"intermediate_size": 704, "kv_lora_rank": 64, "q_lora_rank": 96, "qk_rope_head_dim": 16},
    **{"qk_nope_head_dim": 32, "v_head_dim": 32, "n_routed_experts": 8, "moe_intermediate_size": 176},
    **{"first_k_dense_replace": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1},
}
_SCAN: dict[str, Any] = {"mamba_n_heads": 16, "mamba_d_head": 32, "mamba_d_state": 32, "mamba_n_groups": 1}
_EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 176}
#: Name → its class's, and what its config says.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**_PLAIN, "num_key_value_heads": 8}),
    "llama-gqa": ("LlamaForCausalLM", _WIDE),
    "mistral": ("MistralForCausalLM", {**_WIDE, "sliding_window": 256}),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 32_000, "n_embd": 256, "n_layer": 3, "n_head": 8, "n_positions": 8192}),
    "gpt-neox": ("GPTNeoXForCausalLM", _PLAIN),
    "bloom": ("BloomForCausalLM", {"vocab_size": 32_000, "hidden_size": 256, "n_layer": 3, "n_head": 8}),
    "falcon": ("FalconForCausalLM", {**_SIZES, "multi_query": True}),
    "gemma2": ("Gemma2ForCausalLM", {**_WIDE, "head_dim": 32, "sliding_window": 256}),
    "gemma3": ("Gemma3ForCausalLM", {**_WIDE, "head_dim": 32, "sliding_window": 256}),
    "deepseek-v2": ("DeepseekV2ForCausalLM", _LATENT),
    "deepseek-v3": ("DeepseekV3ForCausalLM", _LATENT),
    "mixtral": ("MixtralForCausalLM", {**_WIDE, "num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen3-moe": ("Qwen3MoeForCausalLM", {**_WIDE, **_EXPERTS, "head_dim": 32}),
    "gpt-oss": ("GptOssForCausalLM", {**_WIDE, "head_dim": 32, "sliding_window": 256, "num_local_experts": 8}),
    "llama4": (
        "Llama4ForCausalLM",
        {**_WIDE, "head_dim": 32, "intermediate_size_mlp": 704, "num_local_experts": 4, "interleave_moe_layer_step": 1},
    ),
    "jetmoe": (
        "JetMoeForCausalLM",
        {
            **{"vocab_size": 32_000, "num_hidden_layers": 3, "hidden_size": 256, "num_key_value_heads": 8},
            **{"kv_channels": 32, "intermediate_size": 704, "num_local_experts": 8, "num_experts_per_tok": 2},
        },
    ),
    "falcon-h1": ("FalconH1ForCausalLM", {**_WIDE, **_SCAN, "mamba_d_ssm": 512}),
    "lfm2": ("Lfm2ForCausalLM", {**_WIDE, "layer_types": ["conv", "full_attention", "conv"]}),
    "jamba": (
        "JambaForCausalLM",
        {
            **_WIDE,
            **{"attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
            **{"num_experts": 4, "mamba_d_state": 16, "mamba_dt_rank": 32, "use_mamba_kernels": False},
        },
    ),
    "bert": ("BertModel", _PLAIN),
    "modernbert": ("ModernBertModel", {**_PLAIN, "intermediate_size": 768}),
    "t5": ("T5ForConditionalGeneration", {"d_model": 256, "d_kv": 32, "d_ff": 1024, "num_layers": 3, "num_heads": 8}),
}
CONTEXTS = (1024, 4096)


def write(name: str, folder: Path) -> Checkpoint:
    """The checkpoint of a model, whose weights are not what counts."""
    architecture, settings = MODELS[name]
    kind = getattr(transformers, architecture)
    kind._from_config(kind.config_class(**settings), dtype="bfloat16").save_pretrained(folder)
    return checkpoint.read(folder)


def foretold(shape: Shape, dtype: str, context: int) -> int:
    cached = kv_bytes(shape.cache, 1, context, KV_FORMATS[KV_OF[dtype]]) + state_bytes(shape.states, 1, dtype)
    return activations_of(shape, dtype, "cpu").bytes(1, context) + cached + behind_windows(shape, 1, context, dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], metavar="NAME")
    parser.add_argument("--contexts", nargs="+", type=int, default=CONTEXTS, metavar="N")
    options = parser.parse_args()
    names = options.names or list(MODELS)
    transformers.utils.logging.set_verbosity_error()
    print("| model | dtype | tokens | foretold | measured | ratio |\n| --- | --- | ---: | ---: | ---: | ---: |")
    ratios: list[float] = []
    with peak.fresh_processes() as processes:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                found = write(name, Path(folder))
                shape = shape_of(found, tasks.task_of(found), ["float32", "bfloat16"])
                for dtype in ("float32", "bfloat16"):
                    for context in options.contexts:
                        said = foretold(shape, dtype, context)
                        measured = processes.apply(peak.growth, (folder, MODELS[name][0], dtype, 1, context))
                        ratios.append(said / measured)
                        print(
                            f"| {name} | {dtype} | {context:,} | {bytes_text(said)} | {bytes_text(measured)} "
                            f"| {ratios[-1]:.2f} |",
                            flush=True,
                        )
    ratios.sort()
    print(f"\nforetold / measured: {ratios[0]:.2f} to {ratios[-1]:.2f}, median {ratios[len(ratios) // 2]:.2f}")


if __name__ == "__main__":
    main()
