"""Tokenizers that can be opened, and of the others what is wrong with each, in one sentence."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import sentencepiece_model_pb2 as protobuf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from qfund.checkpoints import checkpoint
from qfund.core.errors import CorruptCheckpoint, InvalidInput, ModelError, UnsupportedModel
from qfund.models import configs, inputs
from qfund.models.inputs import opening
from tests.tiny import checkpoints

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def folder(tmp_path: Path, files: dict[str, bytes], **settings: Any) -> Path:
    """A tiny Llama with these files, and these settings, in place of its tokenizer."""
    made = tmp_path / "model"
    made.mkdir()
    source = checkpoints.folder("llama")
    for name in ("config.json", "model.safetensors"):
        (made / name).write_bytes((source / name).read_bytes())
    if settings:
        files = {"tokenizer_config.json": json.dumps(settings).encode()} | files
    for name, content in files.items():
        (made / name).write_bytes(content)
    return made


def reader(made: Path) -> inputs.Reader:
    return inputs.reader(checkpoint.read(made))


def whole(of: Any, **changes: Any) -> bytes:
    """A tokenizer.json."""
    made = Tokenizer(of)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return json.dumps(json.loads(made.to_str()) | changes).encode()


def words() -> bytes:
    return whole(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>"))


def sentence_pieces() -> bytes:
    found: Any = protobuf.ModelProto()  # type: ignore[attr-defined]
    found.trainer_spec.model_type = 1
    for number, piece in enumerate(("<unk>", "<s>", "</s>", "\u2581", *"adeghot", "\u2581the", "\u2581dog")):
        found.pieces.add(piece=piece, score=-float(number), type=2 if number == 0 else 3 if number < 3 else 1)
    written: bytes = found.SerializeToString()
    return written


@pytest.mark.parametrize(
    ("name", "owner"),
    [("tokenizer.model", "LlamaTokenizer"), ("spiece.model", "T5Tokenizer"), ("spm.model", "DebertaV2Tokenizer")],
)
def test_a_sentencepiece_file_alone(name: str, owner: str, tmp_path: Path) -> None:
    found = reader(folder(tmp_path, {name: sentence_pieces()}, tokenizer_class=owner))
    text = found.tokenizer.decode(found.ids("the dog"), skip_special_tokens=True)

    assert text.replace(" ", "") == "thedog"


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        ({}, UnsupportedModel, "holds no tokenizer"),
        ({"tokenizer.json": POINTER}, CorruptCheckpoint, "tokenizer.json .* is a Git LFS pointer"),
        ({"tokenizer.model": POINTER}, CorruptCheckpoint, "tokenizer.model .* is a Git LFS pointer"),
        ({"vocab.txt": POINTER}, CorruptCheckpoint, "vocab.txt .* is a Git LFS pointer"),
        (
            {"tokenizer.json": POINTER, "special_tokens_map.json": POINTER},
            CorruptCheckpoint,
            "tokenizer.json, special_tokens_map.json .* are Git LFS pointers",
        ),
        ({"tokenizer.json": b""}, CorruptCheckpoint, "tokenizer.json is damaged, no JSON: Expecting value"),
        ({"tokenizer.json": words()[:99]}, CorruptCheckpoint, "tokenizer.json is damaged, no JSON"),
        ({"tokenizer_config.json": b"[1]", "tokenizer.json": words()}, CorruptCheckpoint, "holds no JSON object"),
        (
            {"tokenizer.json": whole(models.BPE(), model={"type": "NewerBPE", "vocab": {}, "merges": []})},
            UnsupportedModel,
            f"tokenizers {version('tokenizers')} cannot read .*untagged enum.*newer version",
        ),
        (
            {"tokenizer.json": whole(models.BPE(), pre_tokenizer={"type": "NewerSplit"})},
            UnsupportedModel,
            "cannot read .*PreTokenizer",
        ),
        ({"tokenizer.model": sentence_pieces()[:50]}, CorruptCheckpoint, "damaged, no SentencePiece file"),
        ({"tokenizer.model": b"YQ== 0\nYg== 1\n"}, UnsupportedModel, "a tiktoken file, .*pip install tiktoken"),
        ({"tekken.json": b"{}"}, UnsupportedModel, "cannot be opened: .*KeyError: 'config'"),
    ],
)
def test_each_fault_has_its_sentence(
    files: dict[str, bytes], kind: type[ModelError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        reader(folder(tmp_path, files))


def test_the_libraries_of_a_sentencepiece_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(opening, "version", none)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: 1 / 0)
    with pytest.raises(UnsupportedModel, match=r"SentencePiece file.*pip install sentencepiece protobuf"):
        reader(folder(tmp_path, {"tokenizer.model": sentence_pieces()}))


@pytest.mark.parametrize("model", [models.WordLevel({"a": 0}, unk_token="<unk>"), models.Unigram([("a", -1.0)])])
def test_a_text_with_what_the_vocabulary_lacks(model: Any, tmp_path: Path) -> None:
    found = reader(folder(tmp_path, {"tokenizer.json": whole(model)}))
    assert found.ids("a") == [0]
    with pytest.raises(InvalidInput, match=r"(?i)unk.*no token for what its vocabulary lacks"):
        found.ids("zebra")


@pytest.mark.parametrize(("said", "longest"), [("12", 12), (12.0, 12), (None, 64), (-1, 64), (1e30, 64), ("1e30", 64)])
def test_the_longest_text(said: Any, longest: int, tmp_path: Path) -> None:
    found = reader(folder(tmp_path, {"tokenizer.json": words()}, model_max_length=said))
    assert found.longest == longest and isinstance(found.longest, int)
    assert found.ids("a c") == [0, 2]


@pytest.mark.parametrize("said", ["infinite", [1], float("nan")])
def test_a_longest_text_that_is_no_number(said: Any, tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"model_max_length = .*no number"):
        reader(folder(tmp_path, {"tokenizer.json": words()}, model_max_length=said))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_other_files_that_are_pointers(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match=f"{name} .* is a Git LFS pointer.*git lfs pull"):
        checkpoint.read(folder(tmp_path, {name: POINTER}))


def test_settings_of_writing_that_are_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_bytes(POINTER)
    with pytest.raises(CorruptCheckpoint, match=r"generation_config.json .* is a Git LFS pointer"):
        configs.generation(tmp_path)
