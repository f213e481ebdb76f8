"""GGUF files by llama.cpp: the tokens that transformers writes of the same weights, and what is said without it."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qfund import cli
from qfund.checkpoints import checkpoint
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import InvalidInput, InvalidSpec, ModelNotFound, UnsupportedModel
from qfund.engine import key_of
from qfund.features.speed import link, tables, view, words
from qfund.features.speed.measure import bounds, compiled, gguf
from qfund.features.speed.measure.gguf import GgufWriter
from qfund.features.speed.measure.speed import speed
from qfund.features.speed.measure.writing import ModelWriter
from qfund.features.speed.request.bounds import prefill_share
from qfund.features.speed.request.speed import COMPILED, LLAMA, SpeedRequest, checked
from qfund.models.loading import read
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints, gguf_files

FOLDER = checkpoints.folder("llama")
HERE = pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in F32, with what llama.cpp must be told to run it, and no vocabulary."""
    config, path = checkpoint.read_config(FOLDER), tmp_path_factory.mktemp("gguf") / "tiny-F32.gguf"
    heads = config["num_attention_heads"]
    values = {
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": config.get("num_key_value_heads", heads),
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.dimension_count": config["hidden_size"] // heads,
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "none",
    }
    gguf_files.write(FOLDER, path, "F32", values=values)
    return path


@HERE
@torch.inference_mode()
def test_it_writes_what_transformers_writes(file: Path) -> None:
    model: Any = read(checkpoint.read(FOLDER), "float32")
    writer = GgufWriter(file, open_file(file), 1)
    for batch, depth in ((2, 7), (1, 5)):
        writer.begin(batch, depth)
        ids = np.random.default_rng(0).integers(model.config.vocab_size, size=(batch, depth), dtype=np.int32)
        made = [writer._next.copy()]
        for _ in range(4):
            writer.step()
            made.append(writer._next.copy())
        given = torch.from_numpy(ids).long()
        theirs = model.generate(
            given, max_new_tokens=5, do_sample=False, eos_token_id=None, attention_mask=torch.ones_like(given)
        )
        assert np.array_equal(np.stack(made, 1), theirs[:, depth:].numpy())
    config = model.config
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    assert writer.cache_bytes(2, 7) == 2 * 7 * config.num_hidden_layers * 2 * width * 2
    assert writer.read_bytes == writer.stored_bytes > 0  # the embeddings are the head's weight


@HERE
def test_a_file_is_timed_beside_its_original(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_SIDES", (64,)), ("_BYTES", 2**20), ("_SECONDS", 0.001)):
        monkeypatch.setattr(bounds, name, value)
    asked = SpeedRequest(str(FOLDER), (), depths=(4,), batches=(1, 2), new_tokens=2, rounds=2, files=(str(file),))
    found = speed(asked)
    run = found.runs[1]
    assert (run.precision, run.backend) == ("file:tiny-F32.gguf", LLAMA) and words.name(run) == "tiny-F32 (llama.cpp)"
    assert all(point.decode.low > 0 and point.rounds == 2 for point in run.points)
    assert prefill_share(found.bounds, run, run.points[0]) is None
    assert len(tables.points(found)) == 4 and any("fp16" in note for note in words.notes(found))


@HERE
def test_a_file_is_timed_without_its_original(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As the reference of other files; operations as torch counts those of the original."""
    for name, value in (("_SIDES", (64,)), ("_BYTES", 2**20), ("_SECONDS", 0.001)):
        monkeypatch.setattr(bounds, name, value)
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes())
    asked = SpeedRequest(str(file), depths=(4,), batches=(1, 2), new_tokens=2, rounds=2)
    one, two = speed(asked), speed(replace(asked, files=(str(other),)))
    assert [run.precision for run in one.runs] == [one.request.reference] == ["file:tiny-F32.gguf"]
    assert [words.name(run) for run in two.runs] == ["tiny-F32 (llama.cpp)", "other (llama.cpp)"]
    assert two.runs[0].points[0].decode_ratio.median == 1.0 and one.architecture == "llama"
    assert words.headline(one, 1, 4).startswith("tiny-F32 (llama.cpp) writes ")
    model = read(checkpoint.read(FOLDER), "float32")
    original = ModelWriter(model, PRECISIONS["fp32"], model.config.vocab_size)
    for point in one.runs[0].points:
        assert point.flops == original.flops(point.batch, point.depth)
    with pytest.raises(SystemExit, match="0"):
        options = ["--depth", "4", "--batch", "1", "--new-tokens", "1", "--rounds", "1", "--gpu", "h100"]
        cli.main(["speed", str(file), *options, "--quiet", "--no-store"])
    assert "tiny-F32 (llama.cpp) on h100, estimated" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="the model reads at most"):
        speed(replace(asked, depths=(60_000,)))


def test_a_file_alone_has_no_precisions(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = SpeedRequest(str(file))
    assert checked(checked(alone)) == checked(alone) and checked(alone).reference == "file:tiny-F32.gguf"
    assert key_of(alone) == key_of(checked(alone)) != key_of(replace(alone, rounds=7))
    for wrong in ({"precisions": ("int8",)}, {"reference": "bf16"}, {"backends": ("torch",)}, {"revision": "main"}):
        with pytest.raises(InvalidSpec, match="is a GGUF file: llama"):
            checked(replace(alone, **wrong))
    shown = link.Asked(str(file), precisions=("int8",), revision="main", depths=(4,))
    assert shown.request.alone and checked(shown.request).depths == (4,)
    assert "--precision" not in view.shell(shown) and "--revision" not in view.shell(shown)
    monkeypatch.setattr(gguf, "installed", lambda: False)
    with pytest.raises(UnsupportedModel, match="pip install llama-cpp-python"):
        speed(alone)
    with pytest.raises(ModelNotFound, match="no file or folder"):
        key_of(SpeedRequest("./none.gguf"))


def test_without_the_library_it_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "installed", lambda: False)
    monkeypatch.setattr(compiled, "missing", lambda: "torch.compile needs a C++ compiler, and there is none here.")
    for name, value in (("_SIDES", (64,)), ("_BYTES", 2**20), ("_SECONDS", 0.001)):
        monkeypatch.setattr(bounds, name, value)
    asked = SpeedRequest(str(FOLDER), (), depths=(2,), batches=(1,), new_tokens=1, rounds=1, files=(str(file),))
    assert speed(asked).refused == {"tiny-F32 by llama.cpp": gguf.INSTALL}
    found = speed(replace(asked, backends=(COMPILED,)))
    assert list(found.refused) == ["fp32 by torch.compile"] and len(found.runs) == 1


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="named twice"):
        checked(SpeedRequest(str(FOLDER), files=("a.gguf", "a.gguf")))
    asked = SpeedRequest(str(FOLDER), (), depths=(2,), batches=(1,), new_tokens=1, rounds=1)
    with pytest.raises(ModelNotFound, match="no file or folder"):
        speed(replace(asked, files=(str(tmp_path / "none.gguf"),)))
    shown = link.Asked(files=("./a.gguf", "owner/name:b.gguf"))
    assert link.from_query(link.to_query(shown)) == (shown, [])


@HERE
def test_a_file_that_llama_cpp_does_not_open_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "nothing-known.gguf"
    gguf_files.write(FOLDER, path, "F32")  # without what llama.cpp must be told
    with pytest.raises(UnsupportedModel, match=r"does not open nothing-known\.gguf"):
        GgufWriter(path, open_file(path), 1)


@torch.inference_mode()
def test_compiled_steps_write_what_plain_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cache of a fixed size; the graph itself is torch's, and takes a minute to make."""
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    model = read(checkpoint.read(FOLDER), "float32")
    plain = ModelWriter(model, PRECISIONS["fp32"], model.config.vocab_size)
    steps = compiled.CompiledWriter(model, PRECISIONS["fp32"], model.config.vocab_size, 12)
    steps.compile((1, 2))
    for batch in (1, 2):
        plain.begin(batch, 6)
        steps.begin(batch, 6)
        for _ in range(5):
            plain.step()
            steps.step()
            assert torch.equal(plain._next, steps._next)
    assert steps.compile_seconds >= 0
