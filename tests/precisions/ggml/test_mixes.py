"""What llama-quantize chooses for each tensor, worked out by hand for models of several kinds."""

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig

from qfund.precisions.gguf_names import gguf_name
from qfund.precisions.quantizers.plan import plan_of, quantizers
from qfund.precisions.table import PRECISIONS


def types(config: Any, row: str) -> dict[str, str]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    groups = plan_of(model, PRECISIONS[row]).groups
    found: list[Any] = quantizers(model, PRECISIONS[row], groups)
    return {group[0].name: kind.name for group, kind in zip(groups, found, strict=True)}


def llama(layers: int = 16, keys: int = 4, tied: bool = False, width: int = 256) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=keys,
        tie_word_embeddings=tied,
    )


#: Of 16 layers the first two, the last two, and every third from the fifth on.
MORE = {0, 1, 4, 7, 10, 13, 14, 15}


def test_more_bits_for_half_of_the_layers() -> None:
    for row, base in (("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")):
        found = types(llama(), row)
        for layer in range(16):
            at = f"model.layers.{layer}."
            wide = "Q6_K" if layer in MORE else base
            assert found[f"{at}self_attn.v_proj.weight"] == found[f"{at}mlp.down_proj.weight"] == wide
            for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"):
                assert found[f"{at}{name}.weight"] == base
        assert found["lm_head.weight"] == "Q6_K" and found["model.embed_tokens.weight"] == base


def test_small_mixes() -> None:
    found = types(llama(), "q4_k_s")
    values = [found[f"model.layers.{layer}.self_attn.v_proj.weight"] for layer in range(16)]
    downs = [found[f"model.layers.{layer}.mlp.down_proj.weight"] for layer in range(16)]
    assert values == ["Q5_K"] * 4 + ["Q4_K"] * 12 and downs == ["Q5_K"] * 2 + ["Q4_K"] * 14
    found = types(llama(), "q3_k_m")
    assert [found[f"model.layers.{layer}.self_attn.v_proj.weight"] for layer in (0, 1, 2, 15)] == [
        *("Q5_K", "Q5_K", "Q4_K", "Q4_K")
    ]
    assert [found[f"model.layers.{layer}.mlp.down_proj.weight"] for layer in (0, 1)] == ["Q5_K", "Q4_K"]
    assert found["model.layers.3.self_attn.o_proj.weight"] == "Q4_K"
    for keys, value in ((4, "Q3_K"), (2, "Q4_K")):  # four queries share a key
        found = types(llama(keys=keys), "q2_k_mix")
        assert found["model.layers.3.self_attn.v_proj.weight"] == value
        assert found["model.layers.3.mlp.down_proj.weight"] == found["model.layers.3.self_attn.o_proj.weight"] == "Q3_K"
        assert found["model.layers.3.mlp.up_proj.weight"] == found["model.embed_tokens.weight"] == "Q2_K"
    found = types(llama(keys=2), "iq4_xs_mix")
    assert Counter(found.values()) == {"Q6_K": 1, "Q5_K": 16 + 2, "IQ4_XS": 1 + 16 * 5 + 14}
    assert set(types(llama(), "q4_0_mix").values()) == {"Q4_0", "Q6_K"}


def test_shared_embeddings_are_the_head_and_a_pure_file_has_one_type() -> None:
    found = types(llama(2, tied=True), "q4_k_m")
    assert found["model.embed_tokens.weight"] == "Q6_K" and "lm_head.weight" not in found
    assert set(types(llama(2, tied=True), "q4_k").values()) == {"Q4_K"}
    assert set(types(llama(2, tied=True), "q8_0").values()) == {"Q8_0"}


def test_narrow_rows_fall_back_one_by_one() -> None:
    found = types(llama(2, width=288), "q4_k_m")  # what leads down has 512 inputs
    assert found["model.layers.0.mlp.down_proj.weight"] in ("Q4_K", "Q6_K")
    assert found["model.layers.0.mlp.up_proj.weight"] == "Q5_0" and found["lm_head.weight"] == "Q8_0"


def test_eight_experts_and_their_router() -> None:
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        num_local_experts=8,
    )
    found = types(config, "q4_k_m")
    at = "model.layers.0."
    assert found[f"{at}self_attn.v_proj.weight"] == found[f"{at}self_attn.k_proj.weight"] == "Q8_0"
    assert found[f"{at}self_attn.o_proj.weight"] == "Q5_K" and found[f"{at}self_attn.q_proj.weight"] == "Q4_K"
    assert not [name for name in found if name.endswith("mlp.gate.weight")], "routers stay"
    assert len([name for name in found if "experts" in name]) == 4


def test_fused_attention_and_positions_of_gpt2() -> None:
    config = GPT2Config(vocab_size=64, n_positions=32, n_embd=256, n_layer=8, n_head=4)
    found = types(config, "q4_k_m")
    assert found["transformer.h.1.attn.c_attn.weight"] == "Q5_K"
    assert found["transformer.h.7.mlp.c_proj.weight"] == "Q6_K"
    assert found["transformer.h.1.attn.c_proj.weight"] == "Q4_K"
    assert found["transformer.wte.weight"] == "Q6_K" and "transformer.wpe.weight" not in found


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("model.layers.3.self_attn.v_proj.weight", "blk.3.attn_v.weight"),
        ("model.language_model.layers.11.self_attn.o_proj.weight", "blk.11.attn_output.weight"),
        ("transformer.h.0.mlp.c_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.0.mlp.experts.down_proj", "blk.0.ffn_down_exps.weight"),
        ("lm_head.weight", "output.weight"),
        ("vision.stages.1.whatever.weight", None),
    ],
)
def test_names_of_a_file(name: str, called: str | None) -> None:
    assert gguf_name(name) == called


def test_published_files_of_a_model_differ_by_what_is_foretold() -> None:
    """TinyLlama 1.1B chat v1.0 was published as Q8_0 with 1,170,781,568 bytes and as Q4_K_M with 668,788,096: of one
    header, so that all between them is tensors. 22 layers, eight queries to a key, the head not tied."""
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    sizes = []
    for row in ("q8_0", "q4_k_m"):
        groups = plan_of(model, PRECISIONS[row]).groups
        matrices = [model.get_parameter(first.name) for first, *_ in groups]
        chosen = quantizers(model, PRECISIONS[row], groups)
        sizes.append(
            sum(
                quantizer.layout((matrix.shape[0], matrix.shape[1]), matrix.dtype)["data"].bytes
                for quantizer, matrix in zip(chosen, matrices, strict=True)
            )
        )
    assert sizes[0] - sizes[1] == 1_170_781_568 - 668_788_096
