"""Quantised files among what may fit: bytes as they lie in the file, and the cache of the model."""

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from qfund.checkpoints import checkpoint
from qfund.cli import main
from qfund.core.errors import QfundError
from qfund.features.memory.measure.fits import fits
from qfund.features.memory.request.fits import DEFAULT_PRECISIONS, Fits, FitsRequest, Workload
from tests.tiny import gguf_files
from tests.tiny.checkpoints import folder

WORKLOAD = Workload(1024**3, context=64)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama in Q4_0, with what a head says of it."""
    path = tmp_path_factory.mktemp("fits") / "tiny-Q4_0.gguf"
    return write(path)


def write(path: Path, **more: Any) -> Path:
    config = checkpoint.read_config(folder("llama"))
    values = {
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        **{f"llama.{name}": value for name, value in more.items()},
    }
    gguf_files.write(folder("llama"), path, kind="Q4_0", values=values)
    return path


def of(model: str, *precisions: str, **more: Any) -> Fits:
    return fits(FitsRequest(model, WORKLOAD, precisions or (() if more else DEFAULT_PRECISIONS), **more))


def test_a_file_takes_what_it_holds_and_caches_in_16_bits(file: Path) -> None:
    found = of(str(folder("llama")), "fp32", "fp16", files=(str(file),))
    wide, half, row = found.rows
    assert row.precision == "file:tiny-Q4_0.gguf"
    assert row.weights.bytes == sum(int(tensor.n_bytes) for tensor in GGUFReader(file).tensors) < half.weights.bytes
    assert row.kv_cache == half.kv_cache and 2 * row.kv_cache.bytes == wide.kv_cache.bytes
    assert row.activations == half.activations, "nothing is dequantised whole"
    assert found.choice.precision == "fp32" and any("Files count as they are" in note for note in found.notes)
    (alone,) = of(str(folder("llama")), files=(str(file),)).rows
    assert alone == row


def test_a_gguf_file_stands_alone_by_what_its_head_says(file: Path) -> None:
    beside, alone = of(str(folder("llama")), files=(str(file),)).rows[0], of(str(file))
    assert (alone.rows[0].weights, alone.rows[0].kv_cache) == (beside.weights, beside.kv_cache)
    assert alone.architecture == "llama" and "general formula" in " ".join(alone.notes)
    assert alone.choice.sentence.startswith("Choose tiny-Q4_0: ")


def test_what_cannot_be_known_is_refused(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    windowed = write(tmp_path / "w.gguf", **{"attention.sliding_window": 32})
    bare = tmp_path / "bare.gguf"
    gguf_files.write(folder("llama"), bare)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-32])
    for model, more in (
        (str(windowed), {}),
        (str(bare), {}),
        (str(cut), {}),
        (str(file), {"files": (str(file),)}),
        (str(folder("qwen3")), {"files": (str(file),)}),
        (str(folder("llama")), {"files": ("./nothing.gguf",)}),
        (str(folder("llama")), {"files": (str(file), str(file))}),
    ):
        with pytest.raises(QfundError):
            of(model, **more)
    for arguments, code in (
        ([str(folder("llama")), "--file", str(file)], 0),
        ([str(file)], 0),
        ([str(file), "--precision", "int4"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["fits", *arguments, "--budget", "1GiB", "--context", "64"])
        said = capsys.readouterr()
        assert ended.value.code == code and "Traceback" not in said.err
        assert ("file:tiny-Q4_0.gguf" in said.out) is (code == 0)
