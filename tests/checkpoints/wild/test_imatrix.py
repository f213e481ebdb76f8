"""Importance matrices as llama-imatrix writes them, in both layouts, and files that are none."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray

from qfund.checkpoints.wild.gguf import imatrix
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, QfundError

#: Sums and counts: a matrix, one of stacked experts of which one was never asked, one of zeros.
SUMS = {"blk.0.ffn_up.weight": [[2.0, 4.0]], "blk.0.ffn_up_exps.weight": [[3.0, 6.0], [0.0, 0.0]], "a": [[0.0]]}
COUNTS = {"blk.0.ffn_up.weight": [4.0], "blk.0.ffn_up_exps.weight": [3.0, 0.0], "a": [1.0]}
MEANS = {"blk.0.ffn_up.weight": [0.5, 1.0], "blk.0.ffn_up_exps.weight": [1.0, 2.0, 1.0, 1.0], "a": [0.0]}


def write(path: Path, sums: Mapping[str, object] = SUMS, counts: Mapping[str, object] = COUNTS) -> Path:
    writer = GGUFWriter(path, "none")
    writer.add_array("imatrix.datasets", ["wiki.txt"])
    writer.add_uint32("imatrix.chunk_count", 7)
    for name, values in sums.items():
        writer.add_tensor(f"{name}.in_sum2", np.array(values, np.float32))
    for name, values in counts.items():
        writer.add_tensor(f"{name}.counts", np.array(values, np.float32)[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def older(means: Mapping[str, list[float]], calls: int = 4, tail: bytes = b"") -> bytes:
    data = struct.pack("<i", len(means))
    for name, values in means.items():
        data += struct.pack(f"<i{len(name)}sii", len(name), name.encode(), calls, len(values))
        data += np.array(values, "<f4").tobytes()
    return data + tail


def same(found: Mapping[str, NDArray[np.float32]], means: Mapping[str, list[float]]) -> bool:
    return {name: values.tolist() for name, values in found.items()} == means


def test_both_layouts_give_the_means(tmp_path: Path) -> None:
    found = imatrix.read(write(tmp_path / "m.gguf"))
    assert same(found.entries, MEANS) and (found.chunks, found.datasets) == (7, ("wiki.txt",))
    path = tmp_path / "m.dat"
    path.write_bytes(older({"a": [2.0, 4.0]}, 4, struct.pack("<ii8s", 7, 8, b"wiki.txt")))
    found = imatrix.read(path)
    assert same(found.entries, {"a": [0.5, 1.0]}) and (found.chunks, found.datasets) == (7, ("wiki.txt",))
    path.write_bytes(older({"a": [2.0, 4.0]}, 0))
    assert same(imatrix.read(path).entries, {"a": [2.0, 4.0]})
    assert imatrix.read(path).id == imatrix.identity(path) != found.id


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GG",
        b"GGUF",
        b"\x00" * 64,
        b"PK\x03\x04" + bytes(100),
        struct.pack("<i", -1),
        struct.pack("<ii", 1, 2**31 - 1),
        struct.pack("<ii", 1, -5),
        struct.pack("<ii1sii", 1, 1, b"a", 1, 2**30),
        struct.pack("<ii1sii", 1, 1, b"a", 1, -1),
        older({"a": []}),
        older({"a": [float("nan")]}),
        older({"a": [float("inf")]}),
        older({"a": [-1.0]}),
        older({"a": [1.0]})[:-1],
        older({"a": [1.0]}, tail=struct.pack("<ii", 7, 99)),
    ],
)
def test_what_is_no_importance_matrix_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpoint):
        imatrix.read(path)


def test_lying_gguf_files_are_refused(tmp_path: Path) -> None:
    sums: dict[str, object] = {"a": [[1.0, 2.0]]}
    lies: list[tuple[dict[str, object], dict[str, object]]] = [
        ({}, {}),
        (sums, {}),
        ({}, {"a": [1.0]}),
        (sums, {"a": [1.0, 1.0, 1.0]}),
        (sums, {"a": [float("nan")]}),
        ({"a": [[-1.0, 0.0]]}, {"a": [1.0]}),
        ({"a": [[float("inf"), 0.0]]}, {"a": [1.0]}),
    ]
    for number, (given, counts) in enumerate(lies):
        with pytest.raises(QfundError):
            imatrix.read(write(tmp_path / f"{number}.gguf", given, counts))
    whole = write(tmp_path / "m.gguf").read_bytes()
    for size in (10, 100, len(whole) - 40):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(QfundError):
            imatrix.read(tmp_path / "cut.gguf")
    with pytest.raises(ModelNotFound):
        imatrix.read(tmp_path / "nothing")
