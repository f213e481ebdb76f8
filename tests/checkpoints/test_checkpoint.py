"""Checkpoints that are broken in the ways that real ones are: each is refused before anything is loaded."""

import contextlib
import json
import math
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint, headers, identity
from qfund.checkpoints.catalog import CATALOG
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, QfundError, UnsafeCheckpoint, UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec


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
        "quantised, but not how",
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


def header(rows: object, data: int = 0, length: int | None = None) -> bytes:
    """A file with this header (text, or rows as JSON) and so many bytes of weights."""
    raw = rows.encode() if isinstance(rows, str) else json.dumps(rows).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + bytes(data)


def row(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


LIES: list[tuple[bytes, str]] = [
    (b"", "truncated"),
    (b"\xff" * 8, "truncated"),
    (header("", length=2**63), "truncated"),
    (header({"a": row(0, 8)}, 7), "damaged"),
    (header({"a": row(0, 8)}, 9), "damaged"),
    (header({}, 1), "damaged"),
    (header({"a": row(0, 2**62)}, 8), "damaged"),
    (header({"a": row(0, 8), "b": row(4, 12)}, 12), "b overlaps"),
    (header({"a": row(0, 8), "b": row(0, 8)}, 8), "b overlaps"),
    (header({"a": row(4, 12)}, 12), "a begins behind a gap"),
    (header({"a": row(0, 4), "b": row(8, 12)}, 12), "b begins behind a gap"),
    (header({"a": row(8, 0, [2])}, 8), "a is 2 in F32, which are not -8 bytes"),
    (header({"a": row(0, 8, [3])}, 8), "a is 3 in F32, which are not 8 bytes"),
    (header({"a": row(0, 8, [])}, 8), "a scalar"),
    (header({"a": row(0, 8, [2], "F16")}, 8), "in F16"),
    (header({"a": row(0, 8, [2], "F31")}, 8), "dtype F31"),
    (header({"a": row(0, 8, [2], "Q" * 10**6)}, 8), "dtype QQQ"),
    (header({"a": row(0, 8, [10**9, 10**9, 10**9])}, 8), "1000000000×1000000000×1000000000"),
    (header({"a": row(0, 8, [2**63 - 1] * 64)}, 8), "which are not"),
    (header({"a": row(0, 8, [2] * 10**6)}, 8), "1,000,000 dimensions"),
    (header({"a": row(0, 8, [-2])}, 8), "malformed"),
    (header({"a": row(0, 8, [2.0])}, 8), "malformed"),
    (header({"a": row(0, 8, ["2"])}, 8), "malformed"),
    (header({"a": row(0, 8, [10**30])}, 8), "malformed"),
    (header({"a": row(-8, 0, [2])}, 8), "malformed"),
    (header({"a": row(0, 8) | {"more": 1}}, 8), "malformed"),
    (header({"a": {"dtype": "F32", "shape": [2]}}, 8), "malformed"),
    (header({"a": {"dtype": 1, "shape": [2], "data_offsets": [0, 8]}}, 8), "malformed"),
    (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, 8), "malformed"),
    (header({"a": {"dtype": "F32", "shape": None, "data_offsets": [0, 8]}}, 8), "malformed"),
    (header({"a": 1}), "malformed"),
    (header([1]), "malformed"),
    (header("null"), "malformed"),
    (header("{'a': 1}"), "malformed"),
    (header('{"a": ' + "[" * 100_000), "malformed"),
    (header('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "malformed"),
    (header("[" * 10**6 + "]" * 10**6), "malformed"),
    (header({"__metadata__": {"format": 1}}), "malformed"),
    (header('{"\ud800": 1}'.encode("utf-8", "surrogatepass").decode("latin-1")), "malformed"),
    (b"\x08" + bytes(7) + b'{"\xff": 1}', "malformed"),
    (header(json.dumps({"a": row(0, 8)})[:-1] + ", " + json.dumps({"a": row(8, 16)})[1:], 16), "malformed"),
    (header(json.dumps({"a": row(0, 8)})[:-1] + ", " + json.dumps({"a": row(0, 8)})[1:], 8), "names a tensor twice"),
]


@pytest.mark.parametrize(("content", "said"), LIES, ids=range(len(LIES)))
def test_headers_that_lie(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(CorruptCheckpoint) as caught:
        headers.read_header(file)
    assert said in caught.value.message and len(caught.value.message) < 1000
    assert time.perf_counter() - start < 1


def test_headers_that_are_unusual_and_true(tmp_path: Path) -> None:
    """The order of names is free, spaces may follow, tensors may be empty or scalars or of less than a byte."""
    rows = {
        "__metadata__": {"format": "pt", "data_offsets": "words"},
        "b": row(4, 12),
        "empty": row(4, 4, [0, 2**40]),
        "a": row(0, 4, []),
        "codes": row(12, 14, [4], "F4"),
        "sixths": row(14, 17, [2, 2], "F6_E2M3"),
    }
    file = tmp_path / "model.safetensors"
    file.write_bytes(header(json.dumps(rows) + " " * 1000, 17))
    found = headers.read_header(file)
    assert {name: (tensor.dtype, tensor.shape, tensor.bytes) for name, tensor in found.items()} == {
        "b": ("F32", (2,), 8),
        "empty": ("F32", (0, 2**40), 0),
        "a": ("F32", (), 4),
        "codes": ("F4", (4,), 2),
        "sixths": ("F6_E2M3", (2, 2), 3),
    }


def named(size: int) -> bytes:
    """A file whose header has so many bytes, and names as many tensors as these hold."""
    one = json.dumps(row(0, 0, [0]))
    text = "{" + ", ".join(f'"t{number:07}": {one}' for number in range(size // (len(one) + 14))) + "}"
    return header(text + " " * (size - len(text)))


def test_the_largest_header_is_read_quickly(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(named(headers.LARGEST_HEADER))
    start = time.perf_counter()
    assert len(headers.read_header(file)) > 200_000
    assert time.perf_counter() - start < 10  # 1 s where nothing else runs


def test_a_hundred_megabytes_of_header_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as target:
        target.write((100 * 2**20).to_bytes(8, "little"))
        target.truncate(101 * 2**20)
    start = time.perf_counter()
    with pytest.raises(CorruptCheckpoint, match="header of 104,857,600 bytes"):
        headers.read_header(file)
    assert time.perf_counter() - start < 0.1


def test_headers_take_little_memory(tmp_path: Path) -> None:
    """In proportion to the header: 15 times it at most, so 240 MiB for the largest."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(named(10**6))
    tracemalloc.start()
    try:
        headers.read_header(file)
        assert tracemalloc.get_traced_memory()[1] < 15 * 10**6
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)

ROW = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "I8", "F4", "?"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | st.lists(st.integers(), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 24), min_size=2, max_size=2) | JSON,
    },
)

TRUE_ROW = st.builds(
    lambda shape, start: row(start, start + 4 * math.prod(shape), shape),
    st.lists(st.integers(0, 3), max_size=2),
    st.integers(0, 12),
)

HEADERS = st.dictionaries(st.sampled_from("abc") | st.just("__metadata__"), TRUE_ROW | ROW | JSON, max_size=3) | JSON


@settings(max_examples=400)
@given(rows=HEADERS, data=st.integers(0, 40), cut=st.none() | st.integers(0, 60))
def test_no_header_gives_anything_but_tensors_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, rows: object, data: int, cut: int | None
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    content = header(rows, data)[:cut]
    file.write_bytes(content)
    try:
        found = headers.read_header(file)
    except CorruptCheckpoint:
        return
    weights = len(content) - 8 - int.from_bytes(content[:8], "little")
    assert sum(tensor.bytes for tensor in found.values()) == weights
    assert set(found) == set(rows) - {"__metadata__"}  # type: ignore[call-overload]


@settings(max_examples=200)
@given(content=st.binary(max_size=80))
def test_no_bytes_give_anything_but_tensors_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    for text in (content, len(content).to_bytes(8, "little") + content):
        file.write_bytes(text)
        with contextlib.suppress(CorruptCheckpoint):
            assert headers.read_header(file) == {}


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
    start = time.perf_counter()
    with pytest.raises(CorruptCheckpoint, match=r"config\.json"):
        checkpoint.read_headers(folder)
    assert time.perf_counter() - start < 1


def test_the_identity_of_headers_follows_them_and_the_config_alone(folder: Path) -> None:
    before = checkpoint.read_headers(folder)
    assert before.id.startswith("headers:")
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert checkpoint.read_headers(folder) == before
    edit(folder / "config.json", vocab_size=3)
    assert checkpoint.read_headers(folder).id != before.id
