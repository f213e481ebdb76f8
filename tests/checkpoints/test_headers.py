"""Headers of safetensors files: those that lie, unusual ones, very large ones, and whatever bytes there may be."""

import contextlib
import json
import math
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfund.checkpoints import headers
from qfund.core.errors import CorruptCheckpoint
from tests.checkpoints.written import header, row

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
    start = time.process_time()
    with pytest.raises(CorruptCheckpoint) as caught:
        headers.read_header(file)
    assert said in caught.value.message and len(caught.value.message) < 1000
    assert time.process_time() - start < 1


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
    start = time.process_time()
    assert len(headers.read_header(file)) > 200_000
    assert time.process_time() - start < 10  # 1 s where nothing else runs


def test_a_hundred_megabytes_of_header_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as target:
        target.write((100 * 2**20).to_bytes(8, "little"))
        target.truncate(101 * 2**20)
    start = time.process_time()
    with pytest.raises(CorruptCheckpoint, match="header of 104,857,600 bytes"):
        headers.read_header(file)
    assert time.process_time() - start < 0.1


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
