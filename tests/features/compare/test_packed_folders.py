"""Folders of packed weights as candidates, end to end: as plain transformers runs the numbers that they stand for."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qfund.core.errors import ModelError
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.report import PrecisionResult
from qfund.features.compare.request.spec import Spec
from tests import independent
from tests.checkpoints.wild.packed import folders
from tests.checkpoints.wild.packed.formats import CASES
from tests.features.compare.test_architectures import TEXT, assert_agrees, batches_of, outputs
from tests.tiny import checkpoints


def _result(original: Path, file: Path) -> PrecisionResult:
    found = compare(Spec(str(original), precisions=("bf16",), text=TEXT, files=(str(file),)))
    return next(result for result in found.results if result.precision == f"file:{file.name}")


@pytest.mark.parametrize(
    ("format_", "architecture"),
    [
        ("gptq-4-ordered", "llama-untied"),
        ("nf4-nested", "gpt2"),
        ("mlx-4", "mixtral"),
        ("ct-nvfp4", "qwen3"),
        ("awq", "gemma2"),
        ("ao-int8", "phi"),
        ("fp8-blocks", "gpt-neox"),
        ("hqq-3", "opt"),
        ("modelopt-fp8", "llama"),
    ],
)
def test_the_numbers_are_those_of_the_unpacked_model(format_: str, architecture: str, tmp_path: Path) -> None:
    original = checkpoints.folder(architecture)
    values = folders.write(architecture, CASES[format_], tmp_path / "made")
    plain = tmp_path / "plain"
    shutil.copytree(original, plain, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(
        {name: value.contiguous() for name, value in values.items()}, plain / "model.safetensors", {"format": "pt"}
    )
    candidate = independent.run(independent.load(plain, torch.float32), batches_of(architecture))
    found = _result(original, tmp_path / "made")
    assert_agrees(found, independent.of_logits(outputs(architecture, "fp32"), candidate))
    assert found.file is not None
    assert found.file.bytes == (tmp_path / "made/model.safetensors").stat().st_size
    assert CASES[format_].type in found.file.types
    assert not found.file.notes


def test_what_a_kernel_would_round_is_said(tmp_path: Path) -> None:
    folders.write("llama-untied", CASES["ct-w8a8"], tmp_path / "w8a8")
    folders.write("llama-untied", CASES["ct-int4"], tmp_path / "w4a16")
    original = checkpoints.folder("llama-untied")
    assert [getattr(_result(original, tmp_path / name).file, "inputs", "") for name in ("w8a8", "w4a16")] == [
        "int8, one scale a token",
        None,
    ]


def test_experts_that_mlx_stacks_are_found_again(tmp_path: Path) -> None:
    """``switch_mlp``: as mlx_lm writes Mixtral."""
    from safetensors.torch import load_file

    from qfund.checkpoints import checkpoint
    from qfund.checkpoints.wild.filling import filled
    from qfund.checkpoints.wild.table import open_file

    values = folders.write("mixtral", CASES["mlx-4"], tmp_path / "made")
    tensors = load_file(tmp_path / "made/model.safetensors")
    for layer in range(2):
        block = f"model.layers.{layer}.block_sparse_moe"
        for there, here in {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}.items():
            for kind in ("weight", "scales", "biases"):
                names = [f"{block}.experts.{number}.{here}.{kind}" for number in range(4)]
                if names[0] in tensors:
                    tensors[f"{block}.switch_mlp.{there}.{kind}"] = torch.stack([tensors.pop(name) for name in names])
    save_file(tensors, tmp_path / "made/model.safetensors")
    original = checkpoint.read_headers(checkpoints.folder("mixtral"))
    packed = filled(original, open_file(tmp_path / "made")).packed
    assert packed is not None and set(packed) == set(values)
    for name, value in values.items():
        assert torch.equal(torch.from_numpy(packed[name].values()), value), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers 3"),
        ({"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}, "rope base"),
        ({"max_position_embeddings": 32}, "context"),
    ],
)
def test_another_config_than_the_originals_is_said(change: dict[str, object], words: str, tmp_path: Path) -> None:
    folders.write("llama-untied", CASES["gptq-4"], tmp_path / "made")
    path = tmp_path / "made/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    try:
        found = _result(checkpoints.folder("llama-untied"), tmp_path / "made")
    except ModelError as error:
        assert words in error.message
        return
    assert found.file is not None and any(words in note for note in found.file.notes)


def test_another_original_is_refused(tmp_path: Path) -> None:
    folders.write("phi", CASES["gptq-4"], tmp_path / "made")
    with pytest.raises(ModelError, match="Name the original that the file was made from"):
        _result(checkpoints.folder("llama-untied"), tmp_path / "made")
