"""Recipes for others: a checkpoint that transformers reads gives the recipe's outputs, and every script is one."""

import json
import shlex
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open
from transformers import GraniteMoeConfig, GraniteMoeForCausalLM

from qfund.cli import main
from qfund.commandline.parser import parse
from qfund.core.errors import InvalidSpec, QfundError, UnsupportedModel
from qfund.features.layers import words
from qfund.features.layers.measure.exported import exported
from qfund.features.layers.measure.packed import packed, stacked
from qfund.features.layers.measure.searched import recipe as measure
from qfund.features.layers.request import scripts
from qfund.features.layers.request.exports import Integers, integers, must_hold
from qfund.features.layers.request.recipe import Recipe, RecipeRequest
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints


@pytest.fixture(scope="module")
def found() -> Recipe:
    """Some modules in INT8 by row, INT5 and INT4 in groups, some in the reference."""
    return measure(
        RecipeRequest(
            "pydoc-llama",
            ("int8", "int5", "int4"),
            max_tokens=128,
            test_tokens=128,
            context=64,
            bits=5.3,
            alike=("kind",),
        )
    )


def test_what_is_read_again_gives_the_recipes_outputs_bit_for_bit(found: Recipe, tmp_path: Path) -> None:
    written = exported(found, tmp_path / "new")
    assert written.equal and written.difference == 0
    assert found.recipe.kl is not None and written.kl == found.recipe.kl
    assert "bit for bit" in words.exported(written, found)
    config = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]
    held = {name: group["weights"] for group in config["config_groups"].values() for name in group["targets"]}
    assert {name: row for name, row in found.recipe.modules.items() if row != "fp32"}.keys() == held.keys()
    for name, weights in held.items():
        row = PRECISIONS[found.recipe.modules[name]]
        assert (weights["num_bits"], weights.get("group_size")) == (row.bits, row.group)
    # Codes, scales, and a shape for each module are all that was added to the model's own bytes.
    assert written.bytes < found.recipe.bytes + 200_000
    assert "tokenizer.json" in written.files


@pytest.mark.parametrize(
    ("model", "method", "rows", "most"),
    [
        ("opt", "torchao", ("int8_bf16", "fp8_e4m3_bf16"), 0.2),
        ("llama", "bitsandbytes", ("nf4_bf16",), 0.0),
        ("gpt2", "bitsandbytes", ("nf4_bf16",), 0.0),
    ],
)
def test_what_libraries_write_is_read_again(
    model: str, method: str, rows: tuple[str, ...], most: float, tmp_path: Path
) -> None:
    """bitsandbytes' numbers are ours; torchao multiplies codes before it scales, which BF16 rounds elsewhere."""
    written = exported(mix(model, rows, "bf16"), tmp_path / "new", method=method)
    assert written.difference <= most and written.equal == (written.difference == 0)
    settings = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]
    assert settings["quant_method"] == method and "tokenizer.json" in written.files


def mix(model: str, rows: tuple[str, ...], reference: str) -> Recipe:
    """A recipe of a tiny model in which every second linear layer is in one of the rows, by turns."""
    found = measure(
        RecipeRequest(
            str(checkpoints.folder(model)), rows, reference, checkpoints.TEXT * 3, 32, 16, test_tokens=48, bits=16
        )
    )
    modules = {
        name: reference if number % 2 else rows[number // 2 % len(rows)]
        for number, name in enumerate(found.recipe.modules)
    }
    return replace(found, recipe=replace(found.recipe, modules=modules))


def test_stacks_of_experts_are_read_again_bit_for_bit(tmp_path: Path) -> None:
    """As files name them, one by one; beside linear layers in another precision. No reader takes two for experts."""
    made = mix("mixtral", ("int8", "int4"), "fp32")
    experts = {name for name in made.recipe.modules if name.endswith("experts")}
    assert len(experts) == 2

    def given(*rows: str) -> Recipe:
        taken = dict(zip(sorted(experts), rows, strict=True))
        return replace(made, recipe=replace(made.recipe, modules=made.recipe.modules | taken))

    written = exported(given("int8", "int8"), tmp_path / "new")
    assert written.equal and written.difference == 0
    with safe_open(tmp_path / "new" / "model.safetensors", "pt") as file:
        assert "model.layers.1.block_sparse_moe.experts.3.w2.weight_packed" in file.keys()  # noqa: SIM118
    for rows in (("int8", "int4"), ("int8", "fp32")):
        with pytest.raises(UnsupportedModel, match="take one precision for all of them"):
            exported(given(*rows), tmp_path / "not")
    with pytest.raises(UnsupportedModel, match=r"experts is a \w+; torchao .* Export it by compressed-tensors"):
        exported(given("int8", "int8"), tmp_path / "not", method="torchao")


def test_experts_that_files_hold_as_one_are_refused() -> None:
    """Under another name in the files, so that nothing would tell that they stayed as they were."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    made = GraniteMoeForCausalLM(
        GraniteMoeConfig(vocab_size=32, num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1, **sizes)
    )
    (name,) = [name for name, module in made.named_modules() if stacked(module)]
    with pytest.raises(UnsupportedModel, match="experts one above the other"):
        packed(made, {name: "int8"})


@pytest.mark.parametrize("method", ["compressed-tensors", "torchao"])
def test_layers_that_a_format_does_not_know_are_refused_by_name(method: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"c_attn is a Conv1D.*Export it by bitsandbytes"):
        exported(mix("gpt2", ("int8",), "fp32"), tmp_path / "new", method=method)


@pytest.mark.parametrize(
    ("rows", "reference", "method", "said"),
    [
        (["int8"], "fp32", "bitsandbytes", "Choose nf4"),
        (["nf4", "fp4"], "fp32", "bitsandbytes", "one type"),
        (["nf4"], "fp32", "torchao", "Choose int4_g64"),
        (["mxfp4"], "fp32", "torchao", "Choose"),
        (["int4"], "fp32", "zip", "Unknown format to export"),
    ],
)
def test_every_format_names_what_it_does_not_hold(rows: list[str], reference: str, method: str, said: str) -> None:
    with pytest.raises(QfundError) as raised:
        must_hold(rows, reference, method)
    assert said in str(raised.value)


def test_what_other_tools_take_is_written_for_a_mixture_of_experts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, path = str(checkpoints.folder("mixtral")), tmp_path / "new"
    line = ["recipe", folder, "--precision", "q8_0", "q4_0", "--bits", "9", "--context", "16", "--max-tokens", "16"]
    line += ["--text", checkpoints.TEXT * 2, "--test-tokens", "32", "--no-store", "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*line, "--export", str(path), "--export-format", "text"])
    assert not ended.value.code, capsys.readouterr().err
    script = (path / "llama-quantize.sh").read_text()
    assert r"blk\.0\.ffn_gate_exps\.weight=" in script and r"blk\.1\.ffn_down_exps\.weight=" in script
    assert {"recipe.json", "MODEL_CARD.md", "llama-quantize.sh"} == {file.name for file in path.iterdir()}


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("int8", Integers(8, None)),
        ("int4_g128", Integers(4, 128)),
        ("int3", Integers(3, 32)),
        ("int4_asym", None),
        ("int8_dynamic", None),
        ("nf4", None),
        ("fp8_e4m3", None),
        ("bf16", None),
    ],
)
def test_rows_that_the_format_holds(name: str, held: Integers | None) -> None:
    assert integers(PRECISIONS[name]) == held


@pytest.mark.parametrize(
    ("row", "reference", "near"),
    [("nf4", "fp32", "int4_g64"), ("int8_dynamic", "fp32", "int8"), ("int4_dynamic", "fp32", "int4 "),
     ("fp8_e4m3", "bf16", "int8_bf16"), ("int4", "bf16", "int4_bf16")],
)  # fmt: skip
def test_a_row_that_it_does_not_hold_is_named_and_the_nearest_offered(row: str, reference: str, near: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        must_hold(["int8" if reference == "fp32" else "int8_bf16", row], reference)
    assert PRECISIONS[row].label in raised.value.message and f"{near}" in raised.value.remedy


def test_groups_that_do_not_fill_rows_are_refused_by_name(tmp_path: Path) -> None:
    folder, text = str(checkpoints.folder("llama")), checkpoints.TEXT * 2
    small = measure(RecipeRequest(folder, ("int4",), text=text, context=16, test_tokens=64, max_tokens=64, bits=6))
    with pytest.raises(UnsupportedModel, match=r"down_proj has rows of 48, no multiple of 32"):
        exported(small, tmp_path / "new")
    with pytest.raises(UnsupportedModel, match=r"torchao cannot take .*down_proj in INT4 g32: its 48 input features"):
        exported(small, tmp_path / "other", method="torchao")


MIX = {
    "model.layers.0.self_attn.q_proj": "int4",
    "model.layers.0.mlp.down_proj": "int8",
    "model.layers.1.self_attn.q_proj": "nf4",
    "model.layers.1.mlp.up_proj": "fp32",
}


def test_llm_compressor_reads_yaml() -> None:
    document = yaml.safe_load(scripts.llm_compressor(MIX, "fp32"))
    modifier = document["quant_stage"]["quant_modifiers"]["QuantizationModifier"]
    assert [group["targets"] for group in modifier["config_groups"].values()] == [
        ["model.layers.0.self_attn.q_proj"],
        ["model.layers.0.mlp.down_proj"],
    ]
    four = modifier["config_groups"]["group_0"]["weights"]
    assert four == {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    assert "model.layers.1.mlp.up_proj" in modifier["ignore"]


def test_torchaos_configuration_is_python_that_runs() -> None:
    from torchao.quantization import FqnToConfig

    script = scripts.torchao(MIX, "fp32").replace("quantize_(model", "# (model")
    module = types.ModuleType("config")
    exec(script, module.__dict__)
    assert isinstance(module.config, FqnToConfig)
    assert set(module.config.fqn_to_config) == {"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"}


def test_bitsandbytes_configuration_is_python_that_runs() -> None:
    module = types.ModuleType("config")
    exec(scripts.bitsandbytes(MIX, "fp32"), module.__dict__)
    assert module.config.bnb_4bit_quant_type == "nf4"
    assert set(module.config.llm_int8_skip_modules) == {"lm_head", *MIX} - {"model.layers.1.self_attn.q_proj"}
    assert scripts.bitsandbytes({"a": "int4"}, "fp32") == ""


def test_llama_cpp_has_a_type_for_each_tensor() -> None:
    script = scripts.llama_quantize(MIX, "fp32")
    for option in (
        r"'blk\.0\.attn_q\.weight=q4_0'",
        r"'blk\.0\.ffn_down\.weight=q8_0'",
        r"'blk\.1\.attn_q\.weight=iq4_nl'",
        r"'blk\.1\.ffn_up\.weight=f32'",
    ):
        assert f"--tensor-type {option} \\" in script
    assert "--token-embedding-type f32" in script and "other scales" in script
    assert scripts.llama_quantize({"my.own.thing": "int4"}, "fp32") == ""


@pytest.mark.parametrize(
    ("module", "tensors"),
    [
        ("transformer.h.3.attn.c_attn", ["blk.3.attn_qkv"]),
        ("model.layers.3.self_attn.qkv_proj", ["blk.3.attn_qkv"]),
        ("model.layers.3.mlp.gate_up_proj", ["blk.3.ffn_up"]),
        ("model.decoder.layers.3.self_attn.out_proj", ["blk.3.attn_output"]),
        ("model.layers.3.mlp.experts", ["blk.3.ffn_gate_exps", "blk.3.ffn_up_exps", "blk.3.ffn_down_exps"]),
    ],
)
def test_llama_cpp_names_of_other_architectures(module: str, tensors: list[str]) -> None:
    script = scripts.llama_quantize({module: "q4_k"}, "bf16")
    for tensor in tensors:
        assert tensor.replace(".", r"\.") + r"\.weight=q4_k" in script
    assert script.count("--tensor-type '") == len(tensors)
    assert "measured here" in script and "other scales" not in script


def test_modelopts_configuration_is_python_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entries are an ordered list of quantisers' names, with nothing quantised that is not named."""
    given: list[dict[str, Any]] = []
    module = types.ModuleType("modelopt.torch.quantization")
    module.quantize = lambda model, config: given.append(config)  # type: ignore[attr-defined]
    for name in ("modelopt", "modelopt.torch"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "modelopt.torch.quantization", module)
    sys.modules["modelopt"].torch = sys.modules["modelopt.torch"]  # type: ignore[attr-defined]
    sys.modules["modelopt.torch"].quantization = module  # type: ignore[attr-defined]
    exec(scripts.modelopt(MIX | {"model.layers.0.mlp.up_proj": "nvfp4"}, "fp32"), {"model": None})
    first, *others = given[0]["quant_cfg"]
    assert first == {"quantizer_name": "*", "enable": False}
    held = {row["quantizer_name"].removesuffix(".weight_quantizer"): row["cfg"] for row in others}
    assert held["model.layers.0.self_attn.q_proj"] == {"num_bits": 4, "block_sizes": {-1: 32}}
    assert held["model.layers.0.mlp.down_proj"] == {"num_bits": 8, "axis": 0}
    assert held["model.layers.0.mlp.up_proj"]["num_bits"] == (2, 1)
    assert len(held) == 3 and scripts.modelopt({"a": "nf4"}, "fp32") == ""


def test_a_model_card_is_yaml_and_markdown(found: Recipe) -> None:
    text = words.card(found, "https://example.org/?x=1")
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "base_model": "pydoc-llama",
        "base_model_relation": "quantized",
        "tags": ["mixed-precision"],
    }
    assert f"{found.recipe.bytes:,}" in body and "95 %" in body and "https://example.org/?x=1" in body
    assert f"torch {found.environment.versions['torch']}" in body
    line = shlex.split(body.partition("by `")[2].partition("`")[0])
    options = parse(line[1:])
    assert (options.model, options.bits, tuple(options.alike)) == ("pydoc-llama", 5.3, ("kind",))
    assert (options.max_tokens, options.test_tokens, options.context) == (128, 128, 64)
    here = replace(found, request=replace(found.request, model="/home/me/model"))
    assert "base_model" not in words.card(here)


def test_what_cannot_be_exported_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for rows, folder, said in (
        (["nf4"], tmp_path / "new", "int4_g64"),
        (["int4"], tmp_path / "full", "not an empty folder"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["recipe", "pydoc-llama", "--bits", "5", "--precision", *rows, "--export", str(folder)])
        assert ended.value.code and said in capsys.readouterr().err
