"""Repositories that strangers made to do harm: what is asked of them stays within bounds, whatever they hold."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.checkpoints import checkpoint, counts
from qfund.checkpoints.catalog import CATALOG
from qfund.checkpoints.hub import needed
from qfund.core.errors import OutOfBudget, UnsupportedModel
from qfund.core.units import bytes_text
from tests.checkpoints.fake_hub import FakeHub
from tests.checkpoints.test_hub import environment

_MIB = 1024**2


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CATALOG["dummy"].folder, tmp_path / "files"))


@pytest.fixture
def repository(files: Path) -> Iterator[FakeHub]:
    with FakeHub(files, "someone/toy").serving() as hub:
        yield hub


def python(hub: FakeHub, cache: Path, code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process whose client asks this Hub; what it raises is printed as ``name: message``."""
    program = f"""
        import resource
        from pathlib import Path
        from qfund.checkpoints import checkpoint, hub
        from qfund.core.errors import QfundError
        quietly = lambda phase, share: None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            {code}
        except QfundError as error:
            print(f"{{type(error).__name__}}: {{error}}")
        print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(
        command, env=environment(hub.url, cache) | settings, capture_output=True, text=True, check=True, timeout=100
    )


def _grown(done: subprocess.CompletedProcess[str]) -> int:
    """MiB by which the process's peak grew."""
    return int(done.stdout.rpartition("grown ")[2])


def _shard(path: Path, header: int) -> None:
    """A file of weights whose header of one tensor is so many bytes long."""
    text = json.dumps({"a" * 8 + path.stem: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(header.to_bytes(8, "little") + text.ljust(header) + b"\0" * 4)


def test_headers_are_read_up_to_a_bound_all_together(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    """24 files with headers of 9 MB each took 25 s and 1.4 GB in the web process."""
    (files / "model.safetensors").unlink()
    names = [f"model-{number:05}-of-00024.safetensors" for number in range(24)]
    for name in names:
        _shard(files / name, 9_000_000)
    index = {"weight_map": {"a" * 8 + name.removesuffix(".safetensors"): name for name in names}}
    (files / "model.safetensors.index.json").write_text(json.dumps(index))
    began = os.times().children_user
    done = python(repository, tmp_path / "cache", "hub.read_headers('someone/toy', None, quietly)")
    assert "OutOfBudget: someone/toy has headers of more than 48 MiB" in done.stdout, done.stdout
    assert sum(end - first for name, first, end in repository.sent if name in names) < 60_000_000
    assert _grown(done) < 400 and os.times().children_user - began < 60


def test_no_more_files_than_a_model_has(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    (files / "model.safetensors").unlink()
    names = [f"m{number}.safetensors" for number in range(1_001)]
    for name in names:
        (files / name).touch()
    (files / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))
    done = python(repository, tmp_path / "cache", "hub.read_headers('someone/toy', None, quietly)")
    assert "OutOfBudget: someone/toy has weights in 1,001 files" in done.stdout
    assert not [name for name, _, _ in repository.sent if name in names]


def test_only_what_is_needed_is_downloaded(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    """60 texts of 20 MiB came along, and counted for nothing."""
    for number in range(60):
        with (files / f"notes-{number}.txt").open("wb") as file:
            file.truncate(20 * _MIB)
    for name in ("adapter.safetensors", "training_state.json", "vocab.py", "results.json", "modeling_toy.py"):
        (files / name).write_bytes(b"{}")
    done = python(repository, tmp_path / "cache", "print(hub.download('someone/toy', None, 10**6, quietly)[1])")
    assert "Error" not in done.stdout and "Budget" not in done.stdout, done.stdout
    sent = {name for name, _, _ in repository.sent}
    assert sent == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_everything_that_comes_counts(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    with (files / "tokenizer.json").open("wb") as file:
        file.truncate(30 * _MIB)
    done = python(repository, tmp_path / "cache", "hub.download('someone/toy', None, 20 * 2**20, quietly)")
    assert "OutOfBudget" in done.stdout and {name for name, _, _ in repository.sent} == {"config.json"}


def test_what_stands_beside_the_weights_is_bounded() -> None:
    files = {"config.json": 1, "tokenizer.json": needed.MOST_BESIDE}
    with pytest.raises(OutOfBudget, match=bytes_text(needed.MOST_BESIDE)):
        needed.of_model("a/b", files, {})


def test_shards_are_those_of_the_index_and_steps_come_along() -> None:
    weights = {f"model-{n}.safetensors": 5 for n in (1, 2, 3)}
    shards = needed.shards_of(weights, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    assert shards == {"model-1.safetensors": 5, "model-2.safetensors": 5}
    assert needed.shards_of({**weights, "model.safetensors": 9}, None) == {"model.safetensors": 9}
    assert needed.shards_of({"weights.00.safetensors": 1, "consolidated.safetensors": 1}, None).keys() == {
        "weights.00.safetensors"
    }
    beside = (
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        *("merges.txt", "spiece.model", "sentencepiece.bpe.model", "source.spm", "chat_template.jinja"),
        *("preprocessor_config.json", "processor_config.json", "modules.json", "1_Pooling/config.json"),
        *("2_Dense/model.safetensors", "sentence_bert_config.json", "config_sentence_transformers.json"),
        *("quantize_config.json", "special_tokens_map.json", "added_tokens.json", "model.safetensors.index.json"),
    )
    others = ("README.md", "onnx/config.json", "pytorch_model.bin", "run.sh", "vocab.py", "all_results.json", "a.txt")
    assert needed.of_model("a/b", dict.fromkeys((*beside, *others), 1), {}).keys() == set(beside)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 9_999}, "num_hidden_layers = 9999"),
        ({"n_layer": 10**30}, "n_layer = 1"),
        ({"text_config": {"num_hidden_layers": 2_000}}, "num_hidden_layers = 2000"),
        ({"depths": [500, 600]}, "depths"),
        ({"encoder_layers": 1_025}, "encoder_layers"),
        ({"num_hidden_layers": 512, "num_experts": 256}, "num_experts = 256: 131,072 of all layers together"),
        ({"num_local_experts": 10**6}, "num_local_experts"),
        ({"list": [[{"num_layers": 5_000}]]}, "num_layers"),
    ],
)
def test_a_config_that_asks_for_too_much_is_refused_as_it_is_read(
    files: Path, changes: dict[str, object], said: str
) -> None:
    """9,999 layers kept the worker for over 91 s."""
    config = json.loads((files / "config.json").read_text()) | changes
    (files / "config.json").write_text(json.dumps(config))
    began = time.process_time()
    with pytest.raises(UnsupportedModel) as refused:
        checkpoint.read_headers(files)
    assert said in str(refused.value) and time.process_time() - began < 2


def test_what_was_published_is_built() -> None:
    for config in (
        {"num_hidden_layers": 1_000},
        {"num_hidden_layers": 61, "n_routed_experts": 384, "num_experts_per_tok": 8},
        {"num_layers": 15, "num_decoder_layers": 15, "num_experts": 2_048},
        {"num_hidden_layers": None, "num_experts": "many", "vocab_size": 10**6, "depths": [2, 2, 18, 2]},
    ):
        counts.must_be_buildable(config)


def test_the_config_is_judged_before_weights_are_fetched(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    config = json.loads((files / "config.json").read_text()) | {"num_hidden_layers": 9_999}
    (files / "config.json").write_text(json.dumps(config))
    done = python(repository, tmp_path / "cache", "hub.download('someone/toy', None, 10**9, quietly)")
    assert "UnsupportedModel" in done.stdout and {name for name, _, _ in repository.sent} == {"config.json"}


def test_strangers_do_not_read_with_the_operators_token(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    code = "hub.download('someone/toy', None, 10**6, quietly); hub.read_headers('someone/toy', None, quietly)"
    for settings, sent in (
        ({"QFUND_PUBLIC": "1"}, False),
        ({"QFUND_PUBLIC": "1", "QFUND_HUB_TOKEN": "1"}, True),
        ({}, True),
    ):
        repository.tokens.clear()
        home = {"QFUND_HOME": str(tmp_path / f"home{len(settings)}"), "HF_TOKEN": "hf_of_the_operator"}
        done = python(repository, tmp_path / f"cache{len(settings)}", code, **home, **settings)
        assert "Error" not in done.stdout, done.stdout
        assert any(repository.tokens) is sent, settings
    repository.gated = True
    done = python(repository, tmp_path / "none", code, QFUND_PUBLIC="1", QFUND_HOME=str(tmp_path / "h"))
    assert "is gated" in done.stdout and "HF_TOKEN" not in done.stdout


def test_what_was_used_longest_ago_makes_room(files: Path, tmp_path: Path) -> None:
    """Three models of 1 MiB each on a disk that keeps two and a half."""
    size = (files / "model.safetensors").stat().st_size
    padded = json.loads((files / "config.json").read_text()) | {"note": "x" * (1 * _MIB)}
    (files / "config.json").write_text(json.dumps(padded))
    home = tmp_path / "home"
    settings = {"QFUND_HOME": str(home), "QFUND_HUB_GIB": str((2.5 * _MIB + 3 * size) / 1024**3)}
    for name in ("someone/one", "someone/two", "someone/three"):
        with FakeHub(files, name).serving() as hub:
            done = python(hub, tmp_path / "cache", f"hub.download('{name}', None, 10**7, quietly)", **settings)
            assert "Budget" not in done.stdout, done.stdout
    kept = {path.name for path in (home / "hub").glob("models--*")}
    assert kept == {"models--someone--two", "models--someone--three"}
    with FakeHub(files, "someone/four").serving() as hub:
        settings["QFUND_HUB_GIB"] = str(_MIB / 2 / 1024**3)
        done = python(hub, tmp_path / "cache", "hub.download('someone/four', None, 10**7, quietly)", **settings)
    assert "OutOfBudget: someone/four does not fit in what this server keeps of the Hub" in done.stdout


def test_no_message_tells_of_the_machine(files: Path, repository: FakeHub, tmp_path: Path) -> None:
    (files / "config.json").write_text("{")
    code = "hub.download('someone/toy', None, 10**6, quietly)"
    done = python(repository, tmp_path / "cache", code, QFUND_PUBLIC="1", QFUND_HOME=str(tmp_path / "home"))
    assert "CorruptCheckpoint: config.json cannot be read" in done.stdout and str(tmp_path) not in done.stdout
