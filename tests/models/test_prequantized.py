"""Checkpoints that are quantised already: those that libraries at hand write are read as transformers reads them, the
others are refused by name, and none is quantised again."""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, TorchAoConfig

from qfund.checkpoints import checkpoint
from qfund.checkpoints import quantization as checkpoints_quantization
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel
from qfund.models import prequantized
from qfund.models.counting import stored_bytes
from qfund.models.prequantized import load_stored, readable
from tests.tiny import checkpoints

CPU = torch.device("cpu")
#: Rows of whole blocks: bitsandbytes' CPU kernel unpacks others wrongly.
TINY = checkpoints.Tiny(
    "LlamaForCausalLM",
    lambda: transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    ),
    checkpoints.byte_level,
)
LINEARS = 14  # two layers of q, k, v, o, gate, up, down
WEIGHTS = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3)  # in those
ROWS = 2 * (64 * 2 + 32 * 2 + 128 * 2 + 64)  # of those
FLOATS = 2 * 300 * 64 + 5 * 64  # in embedding, head and norms


@cache
def original() -> tuple[Path, dict[str, torch.Tensor]]:
    """Where the plain checkpoint lies, and its weights."""
    folder = Path(tempfile.mkdtemp(prefix="qfund-original-"))
    checkpoints.write(checkpoints.build(TINY), TINY, folder)
    return folder, load_file(folder / "model.safetensors")


def _bitsandbytes(folder: Path, **settings: Any) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate", reason="transformers opens bitsandbytes checkpoints with accelerate only")
    write(folder, BitsAndBytesConfig(**settings))


def write(folder: Path, config: Any, source: Path | None = None) -> None:
    source = source or original()[0]
    model: Any = transformers.LlamaForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def nf4(folder: Path) -> None:
    _bitsandbytes(
        folder,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="bfloat16",
    )


def int8(folder: Path) -> None:
    _bitsandbytes(folder, load_in_8bit=True)


def torchao(folder: Path) -> None:
    library = pytest.importorskip("torchao.quantization")
    write(folder, TorchAoConfig(library.Int8WeightOnlyConfig(version=2)))


def compressed(folder: Path) -> None:
    """W8A8: weights in int8 by row, activations in int8 by token."""
    quantization = pytest.importorskip("compressed_tensors.quantization")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    model: Any = transformers.LlamaForCausalLM.from_pretrained(original()[0], dtype=torch.bfloat16)
    config = quantization.QuantizationConfig(
        config_groups={"group_0": quantization.preset_name_to_scheme("W8A8", ["Linear"])},
        ignore=["lm_head"],
        quantization_status="frozen",
        format="int-quantized",
    )
    quantization.apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data.copy_(module.weight.abs().amax(1, keepdim=True) / 127.5)
    compressor = compressors.ModelCompressor.from_pretrained_model(model, quantization_format="int-quantized")
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)


MADE: dict[str, tuple[Callable[[Path], None], str]] = {
    "nf4": (nf4, "bitsandbytes nf4, double-quantised, multiplied in bfloat16"),
    "int8": (int8, "bitsandbytes int8, activation columns beyond 6.0 multiplied in 16 bits"),
    "torchao": (torchao, "torchao Int8WeightOnly"),
    "compressed": (
        compressed,
        "compressed-tensors int-quantized, weights int8 per channel and activations int8 per token",
    ),
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the quantised checkpoint of that name lies; to be left as it is."""

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("quantised") / name
        MADE[name][0](folder)
        return folder

    return make


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.arange(3, 40)[None], use_cache=False).logits
    return found


def plain(folder: Path) -> Any:
    """As transformers reads it. bitsandbytes' repacking for AVX512 fails for rows of fewer than 64 weights."""
    model: Any = transformers.LlamaForCausalLM.from_pretrained(folder, dtype="auto")
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


@pytest.mark.parametrize("name", MADE)
def test_read_as_transformers_reads_it(made: Callable[[str], Path], name: str) -> None:
    found = checkpoint.read(made(name))
    assert found.quantization is not None and found.quantization.description == MADE[name][1]
    loaded = load_stored(found, CPU)
    assert len(loaded.converted) == LINEARS
    assert [row.name for row in loaded.left] == ["model.embed_tokens", "lm_head"]
    before = stored_bytes(loaded.model)
    first, again, wanted = logits(loaded.model), logits(loaded.model), logits(plain(made(name)))
    assert torch.equal(first, wanted) and torch.equal(again, wanted)
    if name == "compressed":
        assert loaded.note is not None and "bfloat16" in loaded.note
        assert stored_bytes(loaded.model) > before
    else:
        assert loaded.note is None and stored_bytes(loaded.model) == before


def _values(name: str, folder: Path, module: str) -> torch.Tensor:
    """The weight that the codes of a module stand for, from the file by hand."""
    stored = {key.removeprefix(f"{module}."): value for key, value in load_file(folder / "model.safetensors").items()}
    if name == "int8":
        return stored["weight"] * stored["SCB"][:, None] / 127
    if name == "torchao":
        return stored["_weight_qdata"] * stored["_weight_scale"]
    if name == "compressed":
        return stored["weight"] * stored["weight_scale"].float()
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = load_stored(checkpoint.read(folder), CPU).model.get_submodule(module).weight
    found: torch.Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
    return found.float()


@pytest.mark.parametrize(("name", "error"), [("nf4", 0.12), ("int8", 0.012), ("torchao", 0.012), ("compressed", 0.012)])
def test_the_codes_stand_for_the_original_weights(made: Callable[[str], Path], name: str, error: float) -> None:
    module = "model.layers.1.mlp.up_proj"
    weight = original()[1][f"{module}.weight"]
    difference = _values(name, made(name), module) - weight
    assert 1e-3 < difference.norm() / weight.norm() < error


def test_bytes_are_those_of_the_formats(made: Callable[[str], Path]) -> None:
    frequencies = 2 * 8 * 4  # of the rotary embedding: two buffers of fp32
    expected = {
        # Codes and fp32 scales of blocks of 64; double-quantised: 8-bit scales, theirs, two code books and an offset.
        "nf4": WEIGHTS // 2 + WEIGHTS // 64 + LINEARS * (4 + 1024 + 64 + 4),
        "int8": WEIGHTS + 4 * ROWS,
        "torchao": WEIGHTS + 5 * ROWS,
        "compressed": WEIGHTS + 2 * ROWS,
    }
    for name, size in expected.items():
        try:
            folder = made(name)
        except pytest.skip.Exception:
            continue
        model = load_stored(checkpoint.read(folder), CPU).model
        assert stored_bytes(model) == size + 2 * FLOATS + frequencies, name


def promise(folder: Path, **settings: Any) -> Path:
    """A plain checkpoint with some codes whose config says that it is quantised."""
    shutil.copytree(checkpoints.folder("llama-untied"), folder, dirs_exist_ok=True)
    codes = {"model.layers.0.mlp.up_proj.qweight": torch.zeros(4, 4, dtype=torch.uint8)}
    weights = folder / "model.safetensors"
    save_file(load_file(weights) | codes, weights, {"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))
    return folder


REFUSED = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "GPTQ 4 bits", "optimum|gptqmodel"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "AWQ 4 bits", "gptqmodel"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}, "FP8 e4m3", "unpack|accelerate|GPU"),
    ({"quant_method": "mxfp4"}, "MXFP4", "unpack|[Aa]ccelerate|GPU"),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4}}}, "HQQ 4 bits", "HQQ|device_map"),
    ({"quant_method": "quanto", "weights": "int4"}, "Quanto int4", "optimum-quanto"),
    ({"quant_method": "nvfp4"}, "NVFP4", "not supported yet"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "ModelOpt FP8", "knows no such method"),
    ({"quant_method": "homemade", "bits": 3}, "homemade 3 bits", "knows no such method"),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reads some of these")
@pytest.mark.parametrize(("settings", "label", "why"), REFUSED, ids=[row[1] for row in REFUSED])
def test_refused_by_name_with_the_reason(tmp_path: Path, settings: dict[str, Any], label: str, why: str) -> None:
    found = checkpoint.read(promise(tmp_path / "model", **settings))
    with pytest.raises(UnsupportedModel, match=why) as caught:
        readable(found, CPU)
    assert caught.value.message.startswith(f"model is already quantised ({label})")
    assert "ame the original checkpoint" in caught.value.remedy


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_4bit.is_accelerate_available", lambda: False)
    found = checkpoint.read(promise(tmp_path, quant_method="bitsandbytes", load_in_4bit=True))
    with pytest.raises(UnsupportedModel, match="accelerate") as caught:
        load_stored(found, CPU)
    assert caught.value.remedy.startswith("Install what is missing")


def test_floats_that_are_said_to_be_quantized_are_refused(tmp_path: Path) -> None:
    """transformers would quantise them while loading, or give rubbish."""
    pytest.importorskip("torchao")
    settings = TorchAoConfig(pytest.importorskip("torchao.quantization").Int8WeightOnlyConfig()).to_dict()
    with pytest.raises(CorruptCheckpoint, match="every tensor is float"):
        folder = promise(tmp_path, **settings)
        shutil.copy(checkpoints.folder("llama-untied") / "model.safetensors", folder)
        load_stored(checkpoint.read(folder), CPU)


@pytest.mark.parametrize("name", MADE)
def test_one_float_among_the_codes_is_not_quantized(made: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made(name), tmp_path / "model"))
    edit(folder, "layers.1.mlp.up_proj", "model.layers.1.mlp.up_proj.weight")
    found = checkpoint.read(folder)
    if name == "torchao":  # whose checkpoints say of each tensor what it is
        loaded = load_stored(found, CPU)
        assert len(loaded.converted) == LINEARS - 1
        assert "model.layers.1.mlp.up_proj" in [row.name for row in loaded.left]
        return
    with pytest.raises(CorruptCheckpoint) as caught:
        load_stored(found, CPU)
    assert "up_proj" in caught.value.message and caught.value.remedy


@pytest.mark.parametrize("name", MADE)
def test_missing_codes_are_refused(made: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made(name), tmp_path / "model"))
    edit(folder, "layers.1.mlp.up_proj", None)
    with pytest.raises(CorruptCheckpoint, match=r"could not load|up_proj"):
        load_stored(checkpoint.read(folder), CPU)


def test_weights_that_come_out_wrong_are_refused(tmp_path: Path) -> None:
    """The same checkpoint with rows of 32: bitsandbytes 0.50 gives other weights on a CPU, without a word."""
    functional = pytest.importorskip("bitsandbytes.functional")
    pytest.importorskip("accelerate")
    weight = torch.randn(64, 32)
    codes, state = functional.quantize_4bit(weight, quant_type="nf4")
    if (functional.dequantize_4bit(codes, state) - weight).norm() < 0.12 * weight.norm():
        pytest.skip("this bitsandbytes unpacks them well")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    write(tmp_path, config, checkpoints.folder("llama-untied"))
    with pytest.raises(
        UnsupportedModel, match=r"unpacks model\.layers\.0.*rows of 32 are no multiple of its blocks of 64"
    ):
        load_stored(checkpoint.read(tmp_path), CPU)


def edit(folder: Path, module: str, name: str | None) -> None:
    """Take a module's tensors away, and put the original float weight there under ``name``."""
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    stored = {key: tensor for key, tensor in load_file(path).items() if module not in key}
    if name:
        stored[name] = original()[1][name].bfloat16()
        metadata[name] = '{"_type": "Tensor"}'
    save_file(stored, path, metadata=metadata)


def test_no_other_precision_starts_from_codes(tmp_path: Path) -> None:
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    found = checkpoint.read(promise(tmp_path / "model", **settings))
    prequantized.check(found, True, "As stored")
    with pytest.raises(UnsupportedModel) as caught:
        prequantized.check(found, False, "FP32")
    assert caught.value.message == (
        "model is already quantised (bitsandbytes nf4): FP32 would start from weights that are gone."
    )
    assert "`stored`" in caught.value.remedy


def test_a_plain_checkpoint_has_no_stored_form() -> None:
    found = checkpoint.read(checkpoints.folder("llama"))
    assert found.quantization is None
    prequantized.check(found, False, "FP32")
    with pytest.raises(UnsupportedModel, match="is not quantised"):
        prequantized.check(found, True, "As stored")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "no JSON object"),
        ("gptq", "no JSON object"),
        ({}, "names no quant_method"),
        ({"quant_method": 3}, "names no quant_method"),
        ({"quant_method": "gptq", "bits": "four"}, "quantization_config.bits is 'four'"),
        ({"quant_method": "gptq", "bits": True}, "quantization_config.bits is True"),
        ({"quant_method": "hqq", "quant_config": [4]}, r"quantization_config.quant_config is \[4\]"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "config_groups.a is 1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, settings: Any, said: str) -> None:
    folder = promise(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptCheckpoint, match=said):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    ("settings", "description"),
    [
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": False, "desc_act": True},
            "GPTQ 4 bits, groups of 128, asymmetric, columns by activation order",
        ),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, "GPTQ 8 bits, one scale a row"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "gemm"}, "AWQ 4 bits, groups of 64"),
        ({"load_in_8bit": True, "llm_int8_threshold": 0.0}, "bitsandbytes int8"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao int8_weight_only"),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
            "FP8, blocks of 128×128, activations too (dynamic scales)",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            },
            "compressed-tensors pack-quantized, weights int4 in groups of 128",
        ),
    ],
)
def test_what_it_is_in_words(settings: dict[str, Any], description: str) -> None:
    found = checkpoints_quantization.find({"quantization_config": settings})
    assert found is not None and found.description == description


def test_a_part_may_be_quantized() -> None:
    found = checkpoints_quantization.find({"text_config": {"quantization_config": {"quant_method": "mxfp4"}}})
    assert found is not None and found.label == "MXFP4"
    assert checkpoints_quantization.find({"text_config": {}, "quantization_config": None}) is None


def test_codes_without_a_word_about_them_are_refused(tmp_path: Path) -> None:
    shutil.copytree(checkpoints.folder("llama-untied"), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.float8_e4m3fn)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"lm_head\.weight in F8_E4M3"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("config", [True, False])
def test_gguf_is_refused_by_name(tmp_path: Path, config: bool) -> None:
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    if config:
        shutil.copy(checkpoints.folder("llama") / "config.json", tmp_path)
    with pytest.raises(UnsupportedModel, match=r"model-Q4_K_M\.gguf is a GGUF file") as caught:
        checkpoint.read(tmp_path)
    assert caught.value.remedy
