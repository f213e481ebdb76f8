"""Stacked experts under every layout: converted, foretold to the byte, and streamed bit for bit as whole models run."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from qfund.checkpoints import checkpoint
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.units import bytes_text
from qfund.features.memory.measure.plan import plan
from qfund.features.memory.request.plan import PlanRequest
from qfund.models import footprint, loading
from qfund.models.skeleton import Skeletons
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from qfund.stream.streamed import Streamed
from qfund.stream.walker import Way
from tests.stream.test_stream import Heard, assert_same, tensors, whole

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_library: Any = transformers


def llama4() -> Any:
    return _library.Llama4ForCausalLM, _library.Llama4TextConfig(
        **SIZES, intermediate_size_mlp=64, head_dim=8, num_local_experts=4, interleave_moe_layer_step=1
    )


def jetmoe() -> Any:
    sizes = {key: value for key, value in SIZES.items() if key != "num_attention_heads"}
    return _library.JetMoeForCausalLM, _library.JetMoeConfig(**sizes, num_local_experts=4, kv_channels=8)


def dbrx() -> Any:
    parts: dict[str, dict[str, Any]] = {
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32}
    }
    parts["attn_config"] = {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8}
    return _library.DbrxForCausalLM, _library.DbrxConfig(
        vocab_size=300, d_model=32, n_heads=4, n_layers=2, max_seq_len=64, pad_token_id=0, **parts
    )


def longcat() -> Any:
    latent = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    experts = {"n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2, "expert_ffn_hidden_size": 32}
    sizes = {key: value for key, value in SIZES.items() if key not in ("num_hidden_layers", "intermediate_size")}
    return _library.LongcatFlashForCausalLM, _library.LongcatFlashConfig(
        **{**sizes, "num_key_value_heads": 4}, num_layers=2, ffn_hidden_size=64, **latent, **experts, head_dim=8
    )


def gpt_oss() -> Any:
    return _library.GptOssForCausalLM, _library.GptOssConfig(
        **SIZES, head_dim=8, num_local_experts=4, num_experts_per_tok=2
    )


KINDS: dict[str, Callable[[], Any]] = {
    "llama4": llama4,
    "jetmoe": jetmoe,
    "dbrx": dbrx,
    "longcat": longcat,
    "gpt-oss": gpt_oss,
}
ROWS = ("fp32", "int8", "int4_bf16", "nf4")
_folders = TemporaryDirectory(prefix="qfund-experts-")


@cache
def opened(kind: str) -> Checkpoint:
    class_, config = KINDS[kind]()
    torch.manual_seed(0)
    model = class_(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.dim() == 1))
    folder = Path(_folders.name) / kind
    model.save_pretrained(folder)
    named = json.loads((folder / "config.json").read_text()) | {"architectures": [class_.__name__]}
    (folder / "config.json").write_text(json.dumps(named))
    return checkpoint.read(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_streams_as_the_whole_model_runs(kind: str) -> None:
    found = opened(kind)
    batches = [{"input_ids": torch.randint(3, 300, (2, 12), generator=torch.Generator().manual_seed(1))}]
    walked, heard = Streamed(found, [Way(row, PRECISIONS[row]) for row in ROWS]), Heard()
    walked.run(batches, heard)
    skeletons = Skeletons(found)
    for walker in walked.walkers:
        row = walker.way.row
        assert_same(tensors(heard.outputs[0][row.name]), whole(found, row.name, batches)[0])
        counted = footprint.stored(walker.frame.model)
        assert counted.bytes == skeletons.footprint(row).bytes == loading.load(found, row).footprint.bytes


#: Kind → a stack of it, and how its experts are read from it: [experts, out, in].
LAYOUTS: dict[str, tuple[str, str, Callable[[Tensor], Tensor]]] = {
    "llama4": ("model.layers.0.feed_forward.experts", "down_proj", lambda weight: weight.transpose(1, 2)),
    "gpt-oss": ("model.layers.1.mlp.experts", "gate_up_proj", lambda weight: weight.transpose(1, 2)),
    "jetmoe": ("model.layers.0.mlp.input_linear", "weight", lambda weight: weight),
    "longcat": ("model.layers.0.mlp.experts", "down_proj", lambda weight: weight),
    "dbrx": ("transformer.blocks.0.ffn.experts.mlp", "w2", lambda weight: weight.view(4, 64, 32).transpose(1, 2)),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_each_expert_is_rounded_as_a_linear_layer_of_its_own(kind: str, precision: str) -> None:
    found = opened(kind)
    row, (module, key, experts) = PRECISIONS[precision], LAYOUTS[kind]
    plain = experts(loading.read(found, "float32").get_parameter(f"{module}.{key}"))
    coded = loading.load(found, row)
    assert module in coded.converted
    assert not any("experts" in left.name for left in coded.left)
    quantizer = quantizer_of(row)
    assert quantizer is not None
    for number, matrix in enumerate(experts(getattr(coded.model.get_submodule(module), key))):
        weight = plain[number].contiguous()
        alone = quantizer.dequantize(quantizer.quantize(weight), (len(weight), weight.shape[1]), weight.dtype)
        assert torch.equal(matrix, alone)


def test_what_stays_is_named_with_its_bytes() -> None:
    """Activations of experts are out of reach: INT8 dynamic leaves them, and says so first."""
    found = opened("llama4")
    planned = plan(PlanRequest(str(found.folder), ("fp32", "int8", "int8_dynamic")), lambda phase, share: None)
    experts = sum(tensor.bytes for name, tensor in found.tensors.items() if "experts." in name)
    assert experts == 2 * 4 * 3 * 32 * 64 * 4
    assert len(planned.notes) == 1
    said = planned.notes[0]
    assert said.startswith("INT8 dynamic: ")
    assert f"({bytes_text(experts + 2 * 4 * 32 * 4)}) stay in FP32" in said  # the routers with them
    assert "model.layers.0.feed_forward.experts (96 KiB: stacked experts" in said


@pytest.mark.parametrize("precision", ["bf16", "int8_bf16", "int4_bf16"])
def test_a_router_that_is_cast_as_it_runs(precision: str, tmp_path: Path) -> None:
    """Switch moves its router to float32 in the middle of a forward: codes are read in that dtype, and stay."""
    config = _library.SwitchTransformersConfig(
        **{"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "num_experts": 4},
        **{"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_decoder_layers": 2},
    )
    torch.manual_seed(0)
    _library.SwitchTransformersForConditionalGeneration(config).save_pretrained(tmp_path)
    found, row = checkpoint.read(tmp_path), PRECISIONS[precision]
    ids = torch.randint(3, 300, (2, 8), generator=torch.Generator().manual_seed(1))
    batches = [{"input_ids": ids, "decoder_input_ids": ids[:, :5]}]
    expected = whole(found, precision, batches)[0]
    assert expected[0].isfinite().all()
    walked, heard = Streamed(found, [Way(precision, row)]), Heard()
    walked.run(batches, heard)
    assert_same(tensors(heard.outputs[0][precision]), expected)
    model = loading.load(found, row).model
    router = model.encoder.block[1].layer[1].mlp.router.classifier
    before, stored = router.weight, {key: (tensor.dtype, tensor.clone()) for key, tensor in router.named_buffers()}
    router.to(torch.float32)
    assert router.weight.dtype == torch.float32
    assert torch.equal(router.weight, before.float())
    assert all(getattr(router, key).dtype == dtype for key, (dtype, _) in stored.items())
