"""Quantised files as candidates: their figures are those of plain transformers with the decoded weights."""

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from qfund.core.errors import InvalidSpec, QfundError, UnsupportedModel
from qfund.core.request import LATER
from qfund.engine import key_of
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import report
from qfund.features.compare.request.link import from_query, to_query
from qfund.features.compare.request.spec import Spec, checked, to_json
from qfund.features.compare.words import calls
from qfund.precisions.files import file_names, label_of, row_of
from tests import independent
from tests.tiny import gguf_files
from tests.tiny.checkpoints import TEXT, folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of the tiny Llama."""
    where = tmp_path_factory.mktemp("files")
    paths = {kind: where / f"tiny-{kind}.gguf" for kind in ("Q8_0", "Q4_0", "F32")}
    for kind, path in paths.items():
        gguf_files.write(folder("llama"), path, kind=kind)
    return paths


def asked(files: dict[str, Path], *kinds: str, **more: object) -> Spec:
    spec = Spec(
        str(folder("llama")), precisions=(), text=TEXT, context=32, files=tuple(str(files[kind]) for kind in kinds)
    )
    return replace(spec, **more)  # type: ignore[arg-type]


def divergence(ids: torch.Tensor, state: dict[str, torch.Tensor]) -> float:
    """Mean KL over all positions, in double, by plain transformers."""
    models = [independent.load(folder("llama"), torch.float32) for _ in range(2)]
    models[1].load_state_dict(state, strict=False)
    with torch.no_grad():
        one, other = (model(ids).logits.double().log_softmax(-1) for model in models)
    return float((one.exp() * (one - other)).sum(-1).mean())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_file_costs_what_its_decoded_weights_cost(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    found = compare(asked(files, kind, precisions=("int8",)))
    assert [row.precision for row in found.results] == ["int8", f"file:tiny-{kind}.gguf"]
    assert found.whole is None  # streamed
    tokens = independent.tokens(folder("llama"), TEXT)[:31]
    (row,) = compare(asked(files, kind, max_tokens=31)).results
    state = gguf_files.decoded(gguf_files.write(folder("llama"), tmp_path / "again.gguf", kind=kind))
    start = [1]  # <s>, which every text begins with
    expected = divergence(torch.tensor([start + tokens]), state)
    assert row.fidelity["kl_mean"].n == 32
    assert row.fidelity["kl_mean"].value == pytest.approx(expected, rel=1e-4)


def test_a_tensor_that_is_decoded_in_pieces_is_the_same(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = compare(asked(files, "Q8_0")).results
    monkeypatch.setattr("qfund.stream.reader._PIECE", 300)
    (pieces,) = compare(asked(files, "Q8_0")).results
    assert pieces.fidelity == whole.fidelity


def test_a_result_says_which_file_and_what_it_takes(files: dict[str, Path]) -> None:
    found = compare(asked(files, "Q4_0"))
    (row,) = found.results
    assert row.file is not None
    assert (row.file.file, row.file.format, row.file.label) == (str(files["Q4_0"]), "gguf", "GGUF Q4_0")
    assert row.file.bytes == files["Q4_0"].stat().st_size
    assert row.file.id.startswith("sha256:")
    assert row.footprint_bytes == sum(size for _, size in row.file.types.values())
    assert row.bits_per_weight == row.file.bits_of_quantized == 4.5
    assert "model.layers.0.self_attn.q_proj" in row.converted_modules
    assert found.reference.file is None
    assert report.from_json(report.to_json(found)) == found


def test_an_unquantised_file_changes_nothing(files: dict[str, Path]) -> None:
    (row,) = compare(asked(files, "F32")).results
    assert row.fidelity["kl_mean"].value == 0
    # Buffers are no part of a file.
    own = compare(asked(files, "F32")).reference
    assert row.footprint_bytes == own.footprint_bytes - own.parts["buffers"]


def test_a_file_may_be_the_reference_of_another_and_of_precisions(files: dict[str, Path]) -> None:
    path = str(files["Q8_0"])
    found = compare(asked(files, "Q8_0", "Q4_0", reference=path, precisions=("fp32",)))
    assert found.spec.reference == found.reference.precision == "file:tiny-Q8_0.gguf"
    assert found.reference.file is not None
    assert [row.precision for row in found.results] == ["fp32", "file:tiny-Q4_0.gguf"]
    there = compare(asked(files, "Q8_0"))
    (back, *_), (forth,) = found.results, there.results
    assert 0 < back.fidelity["kl_mean"].value == pytest.approx(forth.fidelity["kl_mean"].value, rel=0.2)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mamba", "mixtral"])
def test_other_architectures_stream_files_too(name: str, tmp_path: Path) -> None:
    gguf_files.write(folder(name), tmp_path / "model.gguf", kind="F32")
    spec = Spec(str(folder(name)), precisions=(), text=TEXT, context=32, files=(str(tmp_path / "model.gguf"),))
    (row,) = compare(spec).results
    assert row.fidelity["kl_mean"].value < 1e-9  # gemma's norms and mamba's A lose a bit on their way


def test_a_file_that_does_not_fit_is_refused_before_anything_runs(files: dict[str, Path], tmp_path: Path) -> None:
    spec = replace(asked(files, "Q8_0"), model=str(folder("qwen3")))
    with pytest.raises(UnsupportedModel, match="another architecture"):
        compare(spec)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(files["Q8_0"].read_bytes()[:-64])
    with pytest.raises(QfundError, match="truncated"):
        compare(replace(spec, model=str(folder("llama")), files=(str(cut),)))


def test_names_tell_files_apart() -> None:
    assert file_names(("a/x.gguf", "b/x.gguf", "y.gguf")) == {
        "file:a/x.gguf": "a/x.gguf",
        "file:b/x.gguf": "b/x.gguf",
        "file:y.gguf": "y.gguf",
    }
    assert list(file_names(("owner/name@main:x-Q4_K_M.gguf",))) == ["file:x-Q4_K_M.gguf"]
    assert label_of("file:x-Q4_K_M.gguf") == "x-Q4_K_M"
    assert row_of("file:x.gguf").dtype == "float32"
    for wrong in (("x.gguf", "x.gguf"), ("",), ("/",), tuple(f"{number}.gguf" for number in range(33))):
        with pytest.raises(InvalidSpec):
            file_names(wrong)


def test_a_reference_that_is_no_file_of_the_request_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="none of the quantised files"):
        checked(Spec("pydoc-llama", reference="file:x.gguf"))
    with pytest.raises(InvalidSpec, match="No candidate"):
        checked(Spec("pydoc-llama", precisions=(), reference="x.gguf", files=("x.gguf",)))


@pytest.mark.parametrize(
    "spec",
    [
        Spec("pydoc-llama", precisions=(), files=("./x.gguf",)),
        Spec("pydoc-llama", precisions=("bf16",), files=("./x.gguf", "owner/name@main:y.gguf")),
        Spec("pydoc-llama", reference="file:x.gguf", precisions=("bf16",), files=("./x.gguf",)),
    ],
)
def test_a_link_holds_the_files(spec: Spec) -> None:
    query = {name: values for name, values in to_query(checked(spec)).items() if values}
    assert from_query(query, Spec("dummy")) == (checked(spec), [])
    assert "--file ./x.gguf" in calls.shell(spec)
    assert "'./x.gguf'" in calls.python(spec)


def test_requests_without_files_keep_their_keys() -> None:
    spec = Spec("pydoc-llama")
    later = {field.name for field in fields(Spec) if LATER.keys() <= field.metadata.keys()}
    before = {name: value for name, value in json.loads(to_json(checked(spec))).items() if name not in later}
    assert later >= {"files", "until", "imatrix"}
    written = json.dumps(before, separators=(",", ":"), ensure_ascii=False).encode()
    key = hashlib.sha256(b"\n".join((b"compare", written, b"same"))).hexdigest()[:32]
    assert key_of(spec, lambda request: "same") == key
    assert key_of(replace(spec, files=("x.gguf",)), lambda request: "same") != key


def test_a_file_that_is_not_there_has_no_key() -> None:
    with pytest.raises(QfundError, match="There is no file or folder"):
        key_of(Spec("pydoc-llama", files=("./nothing.gguf",)))
