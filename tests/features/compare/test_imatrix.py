"""GGUF rows of a comparison with an importance matrix: asked for everywhere, and the figures of what it makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qfund.cli import main
from qfund.core.errors import InvalidSpec, ModelNotFound, UnsupportedModel
from qfund.engine import key_of
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.link import from_query, to_query
from qfund.features.compare.request.spec import Spec, checked
from qfund.features.compare.words import calls
from tests.checkpoints.wild.test_imatrix import write
from tests.tiny.checkpoints import folder

TEXT = "one two three four five six seven eight nine ten eleven twelve " * 4
MODEL = str(folder("llama"))


@pytest.fixture(scope="module")
def importance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny Llama's ups: the first of 32 inputs counts a thousand times as much as the others."""
    counted = np.where(np.arange(32) == 0, 1000.0, 1.0)[None].tolist()
    names = [f"blk.{layer}.ffn_{part}.weight" for layer in (0, 1) for part in ("up", "gate")]
    return write(
        tmp_path_factory.mktemp("imatrix") / "m.gguf", dict.fromkeys(names, counted), {key: [1.0] for key in names}
    )


def asked(importance: Path | None, *precisions: str) -> Spec:
    given = None if importance is None else str(importance)
    return Spec(MODEL, precisions=precisions, text=TEXT, context=32, max_tokens=64, imatrix=given)


def test_rows_of_gguf_files_alone_change(importance: Path) -> None:
    plain, changed = (compare(asked(given, "int8", "q4_0", "q4_0_inputs", "q8_0")) for given in (None, importance))
    for before, after in zip(plain.results, changed.results, strict=True):
        same = before.fidelity["kl_mean"].value == after.fidelity["kl_mean"].value
        assert same == (before.precision in ("int8", "q8_0")), before.precision
        assert after.predicted_bytes == after.footprint_bytes == before.footprint_bytes and after.file is None
    note = next(row.note for row in changed.results if row.precision == "q4_0")
    assert note and "Rounded with an importance matrix (7 chunks of wiki.txt); " in note and "without it" in note
    assert "importance" not in str(changed.results[0].note)


def test_it_is_a_part_of_the_request(importance: Path, tmp_path: Path) -> None:
    spec = asked(importance, "q4_0")
    assert from_query(to_query(spec), Spec("dummy")) == (spec, [])
    assert from_query(to_query(asked(None, "q4_0")), spec)[0].imatrix is None
    assert f"--imatrix {importance}" in calls.shell(spec) and f"imatrix={str(importance)!r}" in calls.python(spec)
    key = key_of(spec)
    assert key != key_of(replace(spec, imatrix=None)) and "imatrix" not in to_query(replace(spec, imatrix=None))
    other = tmp_path / "m.gguf"
    other.write_bytes(importance.read_bytes())
    assert key_of(replace(spec, imatrix=str(other))) != key  # asked for by another name
    with pytest.raises(ModelNotFound):
        key_of(replace(spec, imatrix="./nothing.gguf"))
    for wrong in (replace(spec, precisions=("int8",)), replace(spec, reference="q8_0", precisions=("q4_0",))):
        with pytest.raises(InvalidSpec, match="importance matrix"):
            checked(wrong)
    with pytest.raises(InvalidSpec, match="has no name"):
        checked(replace(spec, imatrix=" "))
    with pytest.raises(UnsupportedModel, match="importance matrix"):
        compare(replace(spec, model=str(folder("qwen3")), imatrix=str(write(tmp_path / "o.gguf"))))


def test_the_command_takes_one(importance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", MODEL, "--precision", "q4_0", "--text", TEXT, "--context", "32", "--max-tokens", "64"]
    for file, code in ((importance, 0), ("./nothing.gguf", 1)):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--imatrix", str(file), "--no-store", "--quiet"])
        said = capsys.readouterr()
        assert ended.value.code == code and "Traceback" not in said.err
