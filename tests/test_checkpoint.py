"""Checkpoints that are broken in the ways that real ones are: each is refused before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qfund import checkpoint
from qfund.catalog import CATALOG
from qfund.errors import (
    CorruptCheckpoint,
    ModelNotFound,
    QfundError,
    UnsafeCheckpoint,
    UnsupportedModel,
)
from qfund.measures.compare import compare
from qfund.spec import Spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the toy model, to be broken."""
    return Path(shutil.copytree(CATALOG["dummy"].folder, tmp_path / "model"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def garble(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:8] + b"{" * 40 + weights.read_bytes()[48:])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def drop_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


BROKEN: list[tuple[Callable[[Path], object], type[QfundError], str]] = [
    (lambda folder: (folder / "config.json").unlink(), ModelNotFound, "no config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), CorruptCheckpoint, "config.json"),
    (lambda folder: edit(folder / "config.json", architectures=None), UnsupportedModel, "no architecture"),
    (
        lambda folder: edit(folder / "config.json", quantization_config={"quant_method": "gptq"}),
        UnsupportedModel,
        "already quantised (gptq)",
    ),
    (truncate, CorruptCheckpoint, "truncated"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"xyz"), CorruptCheckpoint, "truncated"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), CorruptCheckpoint, "truncated"),
    (garble, CorruptCheckpoint, "malformed"),
    (pickle_only, UnsafeCheckpoint, "pickled"),
    (lambda folder: (folder / "model.safetensors").unlink(), ModelNotFound, "no weights"),
    (drop_shard, CorruptCheckpoint, "model-00001-of-00002.safetensors"),
]


@pytest.mark.parametrize(("damage", "error", "said"), BROKEN)
def test_a_broken_folder_is_refused(
    folder: Path, damage: Callable[[Path], object], error: type[QfundError], said: str
) -> None:
    damage(folder)
    with pytest.raises(error) as caught:
        checkpoint.read(folder)
    assert said in caught.value.message
    assert caught.value.remedy


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no folder"):
        checkpoint.read(tmp_path / "nowhere")


def test_headers_are_what_the_file_holds(folder: Path) -> None:
    found = checkpoint.read(folder)
    stored = load_file(folder / "model.safetensors")
    assert {name: row.shape for name, row in found.tensors.items()} == {k: tuple(v.shape) for k, v in stored.items()}
    assert sum(row.bytes for row in found.tensors.values()) == sum(v.nbytes for v in stored.values())
    assert found.architecture == "DummyModel"


def test_the_identity_follows_the_content_and_nothing_else(folder: Path) -> None:
    before = checkpoint.content_id(folder)
    (folder / "README.md").write_text("words")
    (folder / "model.safetensors").touch()
    assert checkpoint.content_id(folder) == before == checkpoint.content_id(CATALOG["dummy"].folder)
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert checkpoint.content_id(folder) != before


def test_missing_tensors_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=r"lacks 1 tensor: head\.bias"):
        compare(Spec(str(folder), precisions=("bf16",)))


def test_other_shapes_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=r"head\.bias"):
        compare(Spec(str(folder), precisions=("bf16",)))


def test_code_that_comes_with_a_checkpoint_is_not_run(folder: Path) -> None:
    trap = folder / "modeling_trap.py"
    trap.write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Trap: pass\n")
    edit(
        folder / "config.json",
        architectures=["TrapForCausalLM"],
        model_type="trap",
        auto_map={"AutoConfig": "modeling_trap.Trap", "AutoModelForCausalLM": "modeling_trap.Trap"},
    )
    with pytest.raises(UnsafeCheckpoint, match="TrapForCausalLM"):
        compare(Spec(str(folder), precisions=("bf16",)))
    assert not (folder / "ran").exists()


def test_an_architecture_that_is_not_handled_is_named(folder: Path) -> None:
    edit(folder / "config.json", architectures=["WhisperForConditionalGeneration"])
    with pytest.raises(UnsupportedModel, match="WhisperForConditionalGeneration"):
        compare(Spec(str(folder), precisions=("bf16",)))


def test_files_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "model.safetensors"))

    monkeypatch.setattr(checkpoint, "read_header", denied)  # as root, no mode bits deny anything
    with pytest.raises(ModelNotFound, match=r"model\.safetensors cannot be read: Permission denied"):
        checkpoint.read(folder)
