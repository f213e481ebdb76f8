"""Checkpoints that are broken in the ways that real ones are: each is refused before anything is loaded."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint, identity
from qfund.checkpoints.catalog import CATALOG
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, QfundError, UnsafeCheckpoint, UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from tests.checkpoints.written import header, row


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
        lambda folder: edit(folder / "config.json", quantization_config="gptq"),
        CorruptCheckpoint,
        "left over",
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
    before = identity.content_id(folder)
    (folder / "README.md").write_text("words")
    (folder / "model.safetensors").touch()
    assert identity.content_id(folder) == before == identity.content_id(CATALOG["dummy"].folder)
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert identity.content_id(folder) != before


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


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {"a": "gone.safetensors"}}, "lacks gone.safetensors"),
        ({"weight_map": {str(n): f"{n}.safetensors" for n in range(9)}}, "lacks 0.safetensors, 1.safetensors, 2.saf"),
        ({"weight_map": {"a": "here.safetensors", "b": "here.safetensors"}}, "here.safetensors holds b; it does not"),
        ({"weight_map": {"a": "../here.safetensors"}}, "no shard"),
        ({"weight_map": {"a": "/etc/passwd"}}, "no shard"),
        ({"weight_map": {"a": "x" * 10**5 + ".safetensors"}}, "no shard"),
        ({"weight_map": {"a": 3}}, "no shard"),
        ({"weight_map": {"a": None}}, "no shard"),
        ({"weight_map": {}}, "maps no weights"),
        ({"weight_map": ["a"]}, "maps no weights"),
        ({}, "maps no weights"),
        ([], "no JSON object"),
    ],
)
def test_an_index_that_lies(folder: Path, index: object, said: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "here.safetensors").write_bytes(header({"a": row(0, 4)}, 4))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptCheckpoint) as caught:
        checkpoint.read_headers(folder)
    assert said in caught.value.message and len(caught.value.message) < 500


def test_two_shards_that_disagree(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "1.safetensors").write_bytes(header({"a": row(0, 4)}, 4))
    (folder / "2.safetensors").write_bytes(header({"a": row(0, 8), "b": row(8, 12)}, 12))
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptCheckpoint, match="Two files"):
        checkpoint.read_headers(folder)


@pytest.mark.parametrize("content", ["[" * 10**6, "{" + " " * checkpoint.LARGEST_JSON + "}", "\xff", '{"a": NaN'])
def test_a_config_that_is_no_json(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, "latin-1")
    start = time.process_time()
    with pytest.raises(CorruptCheckpoint, match=r"config\.json"):
        checkpoint.read_headers(folder)
    assert time.process_time() - start < 1


def test_the_identity_of_headers_follows_them_and_the_config_alone(folder: Path) -> None:
    before = checkpoint.read_headers(folder)
    assert before.id.startswith("headers:")
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert checkpoint.read_headers(folder) == before
    edit(folder / "config.json", vocab_size=3)
    assert checkpoint.read_headers(folder).id != before.id
