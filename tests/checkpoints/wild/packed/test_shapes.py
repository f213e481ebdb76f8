"""Matrices of odd shapes, and what only some checkpoints have: stacks of experts, settings of single layers, scales in
tiles, older layouts, who wrote a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from qfund.checkpoints.wild.packed_tensor import PackedTensor
from qfund.checkpoints.wild.table import open_file
from tests.checkpoints.wild.packed.folders import MODULE, save, single
from tests.checkpoints.wild.packed.formats import CASES
from tests.checkpoints.wild.packed.packing import e2m1, e4m3, fields, pairs, stream

SHAPES = ((24, 40), (40, 24), (8, 72), (72, 8), (200, 16), (16, 208), (1, 64), (7, 5), (96, 160))


@pytest.mark.parametrize("name", list(CASES))
def test_odd_shapes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    tried = 0
    for out, inputs in SHAPES:
        if case.fits(out, inputs):
            folder = tmp_path / f"{out}x{inputs}"
            value = single(case, out, inputs, folder)
            np.testing.assert_array_equal(only(folder).values(), value.numpy(), err_msg=f"{out}×{inputs}")
            tried += 1
    assert tried


def only(folder: Path) -> PackedTensor:
    (tensor,) = open_file(folder).tensors.values()
    return tensor


def test_a_last_group_of_gptq_may_be_shorter(tmp_path: Path) -> None:
    codes, zeros, scales = torch.randint(0, 16, (8, 40)), torch.randint(1, 16, (8, 3)), torch.rand(8, 3).half()
    index = torch.arange(40) // 16
    parts = {"qweight": stream(codes, 4).T, "qzeros": stream(zeros.T - 1, 4), "scales": scales.T}
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 16}
    save(settings, {f"{MODULE}.{kind}": part for kind, part in parts.items()}, tmp_path)
    value = (codes - zeros[:, index]).half() * scales[:, index]
    np.testing.assert_array_equal(only(tmp_path).values(), value.float().numpy())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zero_points_of_nought_by_who_wrote_the_file(bits: int, tmp_path: Path) -> None:
    """GPTQModel subtracts from words and adds to them, so that 0 borrows from its neighbour; AutoGPTQ wraps each."""
    codes, zeros = torch.randint(0, 2**bits, (32, 32)), torch.randint(0, 2**bits, (32, 2))
    scales = torch.rand(32, 2).half()
    value = ((codes - zeros.repeat_interleave(16, 1)).half() * scales.repeat_interleave(16, 1)).float().numpy()
    words = stream(zeros.T, bits)
    offsets = {2: [0x55555555], 3: [0x24924924, 0x92492492, 0x49249249], 4: [0x11111111], 8: [0x01010101]}[bits]
    by_word = words.long() - torch.tensor(offsets * (words.shape[1] // len(offsets)))
    makers = {
        "gptqmodel": torch.from_numpy((by_word.numpy() % 2**32).astype(np.uint32).view(np.int32)),
        "auto-gptq": stream((zeros.T - 1) % 2**bits, bits),
    }
    for maker, packed in makers.items():
        settings = {"quant_method": "gptq", "bits": bits, "group_size": 16, "meta": {"quantizer": [f"{maker}:1.4"]}}
        parts = {"qweight": stream(codes, bits).T, "qzeros": packed, "scales": scales.T}
        save(settings, {f"{MODULE}.{kind}": part for kind, part in parts.items()}, tmp_path / maker)
        np.testing.assert_array_equal(only(tmp_path / maker).values(), value, err_msg=maker)


def test_layers_of_gptq_may_have_other_bits_than_the_config(tmp_path: Path) -> None:
    single(CASES["gptq-8"], 32, 32, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["bits"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert only(tmp_path).type == "int8 g16"


def test_auto_round_is_gptq_or_awq_by_its_packing(tmp_path: Path) -> None:
    for name, packing in (("gptq-4", "auto_round:auto_gptq"), ("awq", "auto_round:auto_awq")):
        case = CASES[name]
        value = single(case, 32, 32, tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["quantization_config"] |= {"quant_method": "auto-round", "packing_format": packing}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        np.testing.assert_array_equal(only(tmp_path / name).values(), value.numpy())


def test_experts_of_gpt_oss_are_turned_as_transformers_has_them(tmp_path: Path) -> None:
    blocks = torch.randint(0, 256, (3, 10, 2, 16), dtype=torch.uint8)
    scales = torch.randint(100, 140, (3, 10, 2), dtype=torch.uint8)
    scales[0, 0, 0], scales[1, 0, 0] = 0, 254
    name = "model.layers.0.mlp.experts.gate_up_proj"
    save({"quant_method": "mxfp4"}, {f"{name}_blocks": blocks, f"{name}_scales": scales}, tmp_path)
    tensor = only(tmp_path)
    expected = convert_moe_packed_tensors(blocks, scales)
    assert (tensor.name, tensor.shape, tensor.bits) == (name, (3, 64, 10), 4.25)
    np.testing.assert_array_equal(tensor.values(), expected.float().numpy())
    np.testing.assert_array_equal(tensor.decode(1, 2), expected[1:2].float().numpy())


def test_a_stack_of_experts_in_fp8(tmp_path: Path) -> None:
    codes, scales = torch.stack([e4m3(6, 8) for _ in range(3)]), torch.rand(3, 3, 2)
    value = codes.float() * scales.repeat_interleave(2, 1).repeat_interleave(4, 2)
    name = "model.layers.0.mlp.experts.down_proj"
    settings = {"quant_method": "fp8", "weight_block_size": [2, 4]}
    save(settings, {name: codes, f"{name}_scale_inv": scales}, tmp_path)
    np.testing.assert_array_equal(only(tmp_path).values(), value.bfloat16().float().numpy())


def test_blocks_of_fp8_may_end_at_the_edges(tmp_path: Path) -> None:
    """As DeepSeek's own kernel has it; transformers refuses such a grid."""
    codes, scales = e4m3(20, 24), torch.rand(2, 2)
    value = codes.float() * scales.repeat_interleave(16, 0)[:20].repeat_interleave(16, 1)[:, :24]
    settings = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    save(settings, {f"{MODULE}.weight": codes, f"{MODULE}.weight_scale_inv": scales}, tmp_path)
    np.testing.assert_array_equal(only(tmp_path).values(), value.bfloat16().float().numpy())


def test_experts_in_four_bits_beside_fp8(tmp_path: Path) -> None:
    codes, powers = torch.randint(0, 16, (6, 64)), torch.randint(110, 130, (6, 2), dtype=torch.uint8)
    value = e2m1(codes) * torch.exp2(powers.float() - 127).repeat_interleave(32, 1)
    parts = {f"{MODULE}.weight": pairs(codes).view(torch.int8), f"{MODULE}.weight_scale_inv": powers}
    save({"quant_method": "fp8", "weight_block_size": [128, 128], "expert_dtype": "fp4"}, parts, tmp_path)
    np.testing.assert_array_equal(only(tmp_path).values(), value.bfloat16().float().numpy())


def test_fbgemm_has_a_scale_for_each_row(tmp_path: Path) -> None:
    codes, scales = e4m3(6, 10), torch.rand(6, 1)
    save({"quant_method": "fbgemm_fp8"}, {f"{MODULE}.weight": codes, f"{MODULE}.weight_scale": scales}, tmp_path)
    tensor = only(tmp_path)
    assert tensor.type == "fp8 e4m3 per channel"
    np.testing.assert_array_equal(tensor.values(), (codes.float() * scales).bfloat16().float().numpy())


def test_groups_of_compressed_tensors_by_name_pattern_and_class(tmp_path: Path) -> None:
    wide, narrow = CASES["ct-int8-asymmetric"], CASES["ct-int4"]
    first, second = wide.write(16, 32), narrow.write(16, 32)
    groups = {
        "group_0": wide.settings["config_groups"]["group_0"] | {"targets": ["re:.*down_proj$"]},
        "group_1": narrow.settings["config_groups"]["group_0"],
    }
    settings = {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups}
    parts = {f"model.down_proj{kind}": part for kind, part in first.parts.items()}
    parts |= {f"model.up_proj{kind}": part for kind, part in second.parts.items()}
    save(settings, parts, tmp_path)
    found = open_file(tmp_path).tensors
    assert [found[f"model.{name}.weight"].type for name in ("down_proj", "up_proj")] == ["int8 per channel", "int4 g16"]
    for name, made in (("down_proj", first), ("up_proj", second)):
        np.testing.assert_array_equal(found[f"model.{name}.weight"].values(), made.value.float().numpy())


def test_columns_in_the_order_of_activation_of_older_compressed_tensors(tmp_path: Path) -> None:
    codes, scales, index = torch.randint(0, 16, (6, 32)), torch.rand(6, 2).bfloat16(), torch.arange(32) // 16
    index = index[torch.randperm(32)]
    parts = {
        "weight_packed": stream(codes, 4),
        "weight_scale": scales,
        "weight_shape": torch.tensor([6, 32]),
        "weight_g_idx": index.int(),
    }
    save(CASES["ct-int4"].settings, {f"{MODULE}.{kind}": part for kind, part in parts.items()}, tmp_path)
    value = (codes - 8).bfloat16() * scales[:, index]
    np.testing.assert_array_equal(only(tmp_path).values(), value.float().numpy())


def test_three_bits_as_older_compressed_tensors_packed_them(tmp_path: Path) -> None:
    """Ten to a word, none across two."""
    codes, scales = torch.randint(0, 8, (4, 40)), torch.rand(4, 1).bfloat16()
    parts = {
        "weight_packed": fields(codes, 3, tuple(range(10))),
        "weight_scale": scales,
        "weight_shape": torch.tensor([4, 40]),
    }
    assert parts["weight_packed"].shape[1] == 4 == stream(codes, 3).shape[1]  # here the lengths do not tell
    codes = torch.randint(0, 8, (4, 80))
    parts |= {"weight_packed": fields(codes, 3, tuple(range(10))), "weight_shape": torch.tensor([4, 80])}
    assert parts["weight_packed"].shape[1] == 8 == stream(codes, 3).shape[1]
    codes = torch.randint(0, 8, (4, 320))
    parts |= {"weight_packed": fields(codes, 3, tuple(range(10))), "weight_shape": torch.tensor([4, 320])}
    assert (parts["weight_packed"].shape[1], stream(codes, 3).shape[1]) == (32, 30)
    save(CASES["ct-int3-rows"].settings, {f"{MODULE}.{kind}": part for kind, part in parts.items()}, tmp_path)
    np.testing.assert_array_equal(only(tmp_path).values(), ((codes - 4).bfloat16() * scales).float().numpy())


@pytest.mark.parametrize("swizzled", [False, True])
def test_torchao_nvfp4_with_scales_in_rows_or_in_tiles(swizzled: bool, tmp_path: Path) -> None:
    library = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    saving = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    weight = library.NVFP4Tensor.to_nvfp4(
        torch.randn(160, 96).bfloat16(), per_tensor_scale=torch.tensor(0.01), is_swizzled_scales=swizzled
    )
    flat, metadata = saving.flatten_tensor_state_dict({"@.weight": weight})
    metadata.pop("tensor_names")
    save({"quant_method": "torchao"}, {name.replace("@", MODULE): part for name, part in flat.items()}, tmp_path,
         metadata=metadata)  # fmt: skip
    tensor = only(tmp_path)
    assert tensor.type == "nvfp4"
    np.testing.assert_array_equal(tensor.values(), weight.dequantize().float().numpy())


@pytest.mark.parametrize("element", ["float8_e4m3fn", "float4_e2m1fn_x2"])
def test_torchao_mx(element: str, tmp_path: Path) -> None:
    library = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    saving = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
    weight = library.MXTensor.to_mx(torch.randn(24, 96).bfloat16(), torch.__dict__[element], 32)
    flat, metadata = saving.flatten_tensor_state_dict({"@.weight": weight})
    metadata.pop("tensor_names")
    save({"quant_method": "torchao"}, {name.replace("@", MODULE): part for name, part in flat.items()}, tmp_path,
         metadata=metadata)  # fmt: skip
    np.testing.assert_array_equal(only(tmp_path).values(), weight.dequantize().float().numpy())


def test_modules_of_mlx_with_settings_of_their_own_and_modes(tmp_path: Path) -> None:
    six = CASES["mlx-6"].write(16, 64)
    codes, powers = torch.randint(0, 16, (3, 8, 64)), torch.randint(110, 130, (3, 8, 2), dtype=torch.uint8)
    value = e2m1(codes) * torch.exp2(powers.float() - 127).repeat_interleave(32, 2)
    words = torch.stack([stream(part, 4) for part in codes]).view(torch.uint32)
    settings = {
        "bits": 4,
        "group_size": 32,
        "mode": "mxfp4",
        "model.a": {"bits": 6, "group_size": 32, "mode": "affine"},
    }
    parts = {f"model.a{kind}": part for kind, part in six.parts.items()}
    save(settings, {**parts, "model.b.weight": words, "model.b.scales": powers}, tmp_path, key="quantization")
    found = open_file(tmp_path).tensors
    assert {name: tensor.type for name, tensor in found.items()} == {
        "model.a.weight": "int6 g32",
        "model.b.weight": "mxfp4",
    }
    np.testing.assert_array_equal(found["model.a.weight"].values(), six.value.float().numpy())
    np.testing.assert_array_equal(found["model.b.weight"].values(), value.numpy())


def test_model_opt_says_how_beside_the_config(tmp_path: Path) -> None:
    case = CASES["modelopt-nvfp4"]
    made = case.write(8, 32)
    save(None, {MODULE + kind: part for kind, part in made.parts.items()}, tmp_path)
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(told))
    found = open_file(tmp_path)
    assert (found.format, found.label, found.inputs) == ("modelopt", "ModelOpt NVFP4", "nvfp4, groups of 16")
    np.testing.assert_array_equal(only(tmp_path).values(), made.value.numpy())


def test_scales_of_the_cache_are_no_weights(tmp_path: Path) -> None:
    made = CASES["modelopt-fp8"].write(8, 16)
    parts = {f"model.layers.0.self_attn.k_proj{kind}": part for kind, part in made.parts.items()}
    parts["model.layers.0.self_attn.k_proj.k_scale"] = torch.tensor(0.5)
    save(CASES["modelopt-fp8"].settings, parts, tmp_path)
    found = open_file(tmp_path)
    assert set(found.tensors) == {"model.layers.0.self_attn.k_proj.weight"}
    assert "key-value cache" in found.notes[0]
