"""Estimated activations beside forwards that run: ``python -m benchmarks.fits``.

Random models of a few layers, on the CPU. *Estimate* is what ``qfund fits`` says (activations and cache), from traces
without weights; *live* is the most bytes of tensors alive at once in a forward that runs; *resident* is how much the
process grew (its high-water mark, Linux only), which has what kernels take for themselves too, and misses what the
allocator held already.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from qfund.checkpoints import checkpoint
from qfund.core.units import bytes_text
from qfund.features.memory.measure import trace
from qfund.features.memory.measure.shape import shape_of
from qfund.features.memory.request.kv_cache import KV_FORMATS, KV_OF, kv_bytes, state_bytes
from qfund.features.memory.request.sizing import activations_of, behind_windows
from qfund.models import tasks

_SIZES: dict[str, Any] = {"vocab_size": 32_000, "num_hidden_layers": 3, "hidden_size": 512, "num_attention_heads": 8}
_WIDE: dict[str, Any] = {**_SIZES, "intermediate_size": 1408, "num_key_value_heads": 2}
_PLAIN: dict[str, Any] = {**_SIZES, "intermediate_size": 2048}
MODELS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": _WIDE,
    "MistralForCausalLM": {**_WIDE, "sliding_window": 256},
    "Qwen3ForCausalLM": {**_WIDE, "head_dim": 64},
    "Gemma2ForCausalLM": {**_WIDE, "head_dim": 64, "sliding_window": 256},
    "GPT2LMHeadModel": {"n_embd": 512, "n_layer": 3, "n_head": 8},
    "GPTNeoXForCausalLM": _PLAIN,
    "BloomForCausalLM": {"vocab_size": 32_000, "hidden_size": 512, "n_layer": 3, "n_head": 8},
    "FalconForCausalLM": {**_SIZES, "multi_query": True},
    "MambaForCausalLM": {"vocab_size": 32_000, "hidden_size": 256, "num_hidden_layers": 2},
    "T5ForConditionalGeneration": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 3, "num_heads": 8},
}
WORK = ((1, 128), (1, 1024), (4, 512))


def _build(architecture: str) -> Any:
    kind = getattr(transformers, architecture)
    torch.manual_seed(0)
    return kind(kind.config_class(**MODELS[architecture])).eval()


def _options(model: Any, batch: int, context: int) -> dict[str, Any]:
    ids = torch.ones((batch, context), dtype=torch.int64)
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {"logits_to_keep": 1}
    return {"input_ids": ids, "use_cache": True, **more}


def _live(model: Any, options: dict[str, Any]) -> int:
    live = trace.LiveBytes()
    with torch.no_grad(), live:
        model(**options)
    return live.peak


def _resident(model: Any, options: dict[str, Any]) -> int | None:
    """Growth of the high-water mark of resident memory; None where the system has none."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return None
    clear.write_text("5")
    before = _mark()
    with torch.no_grad():
        model(**options)
    return _mark() - before


def _mark() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    print(f"{'model':27} {'dtype':9} {'work':>8} {'estimate':>10} {'live':>10} {'ratio':>6} {'resident':>10}")
    ratios = []
    for architecture in MODELS:
        model = _build(architecture)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            found = checkpoint.read(Path(folder))
            shape = shape_of(found, tasks.task_of(found), ["float32", "bfloat16"])
        for dtype in ("float32", "bfloat16"):
            model.to(getattr(torch, dtype))
            for batch, context in WORK:
                options = _options(model, batch, context)
                cached = kv_bytes(shape.cache, batch, context, KV_FORMATS[KV_OF[dtype]])
                cached += state_bytes(shape.states, batch, dtype)
                estimate = activations_of(shape, dtype).bytes(batch, context) + cached
                estimate += behind_windows(shape, batch, context, dtype)
                live, resident = _live(model, options), _resident(model, options)
                ratios.append(estimate / live)
                seen = "not here" if resident is None else bytes_text(resident)
                print(
                    f"{architecture:27} {dtype:9} {batch:>3}×{context:<4} {bytes_text(estimate):>10} "
                    f"{bytes_text(live):>10} {ratios[-1]:6.3f} {seen:>10}",
                    flush=True,
                )
    print(f"estimate / live: {min(ratios):.3f} to {max(ratios):.3f}, median {sorted(ratios)[len(ratios) // 2]:.3f}")


if __name__ == "__main__":
    main()
