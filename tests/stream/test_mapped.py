"""Weights that are used where they lie in their file: the same numbers, no memory, and nothing else is let go."""

import mmap
import os
import sys
from pathlib import Path

import pytest
import torch

from qfund.checkpoints import checkpoint
from qfund.precisions.quantizers import pieces
from qfund.precisions.table import PRECISIONS
from qfund.stream.mapped import Mappings
from qfund.stream.streamed import Streamed
from qfund.stream.units import BLOCK
from qfund.stream.walker import Way
from tests.stream.test_stream import Heard, assert_same, opened, tensors, whole
from tests.tiny import checkpoints

needs_linux = pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="pages are counted on Linux")


@pytest.fixture(autouse=True)
def all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 16)


def walked_in(name: str, *rows: str) -> Streamed:
    return Streamed(opened(name)[0], [Way(row, PRECISIONS[row]) for row in rows])


def there(path: Path) -> dict[str, int]:
    """Bytes of pages of a mapped file that are in this process's memory, and those that it has changed."""
    found, inside = {"Rss": 0, "Anonymous": 0}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in found:
            found[key] += inside * 1024 * int(value.split()[0])
        elif "-" in line.split()[0]:
            inside = line.endswith(str(path))
    return found


def test_which_weights_are_mapped() -> None:
    walked = walked_in("llama-stored-bf16", "bf16", "fp32", "int8_bf16")
    for walker in walked.walkers:
        frame, row = walker.frame, walker.way.name
        blocks = [unit for unit in walked.units.streamed.values() if unit.kind == BLOCK]
        names = {slot.name for unit in blocks for slot in frame.slots(unit)}
        matrices = {name for name in names if name.endswith("_proj.weight")}
        assert matrices if row != "int8_bf16" else not matrices
        assert matrices <= frame.mapped <= names if row == "bf16" else not matrices & frame.mapped
        for unit in blocks:
            inside = [slot for slot in frame.slots(unit) if slot.name in frame.mapped]
            assert frame.private(unit) == frame.bytes(unit) - sum(slot.empty.nbytes for slot in inside)
    for name in ("gpt2", "llama-untied"):  # turned in FP16, and of another dtype
        assert not walked_in(name, "fp16").walkers[0].frame.mapped


def test_a_mapped_weight_is_its_file_and_no_memory() -> None:
    walked, path = walked_in("llama-untied", "fp32", "int8"), opened("llama-untied")[0].folder / "model.safetensors"
    frame, places = walked.walkers[0].frame, set[int]()

    class Watched(Heard):
        def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None:
            if way.name == "fp32":
                slots = frame.slots(walked.units.streamed[name])
                places.update(slot.tensor.data_ptr() for slot in slots if slot.name in frame.mapped)

    class Started(Watched):
        mappings: str = ""

        def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None:
            super().block(name, way, batch, hidden)
            self.mappings = Path("/proc/self/maps").read_text()

    heard = Started()
    walked.run(opened("llama-untied")[1], heard)
    ranges = [line.split()[0].split("-") for line in heard.mappings.splitlines() if line.endswith(str(path))]
    assert ranges and places
    assert all(any(int(first, 16) <= place < int(last, 16) for first, last in ranges) for place in places)
    assert len(places) == len(frame.mapped)


@needs_linux
def test_pages_go_and_come_and_what_lies_elsewhere_stays(tmp_path: Path) -> None:
    path, count = tmp_path / "weights", 64 * mmap.PAGESIZE
    path.write_bytes(bytes(range(256)) * (count // 256))
    mappings, own = Mappings(), torch.arange(count, dtype=torch.uint8)
    with path.open("rb") as file:
        part = mappings.part(path, file.fileno(), 0, count)
        assert part is not None and mappings.part(path, file.fileno(), 1, count) is None, "the file is shorter"
    assert torch.equal(part, own)
    assert there(path) == {"Rss": count, "Anonymous": 0}
    mappings.leave(own)
    mappings.leave(part)
    assert there(path) == {"Rss": 0, "Anonymous": 0}
    assert torch.equal(part, own), "it comes back, and what is no file has stayed"
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].weight = torch.nn.Parameter(part[16:32].view(torch.float32).reshape(2, 2), requires_grad=False)
    expected = model(torch.ones(1, 2))
    with mappings.one_at_a_time(model, ["0.weight", "1.weight"]):
        assert torch.equal(model(torch.ones(1, 2)), expected) and torch.equal(model(torch.ones(1, 2)), expected)
    mappings.close()
    assert torch.equal(part, own), "what is held outlives the mappings"


@pytest.mark.parametrize("broken", ["no mapping", "no pages to let go"])
def test_where_the_system_does_not_do_it(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(19, "no such device")

    if broken == "no mapping":
        monkeypatch.setattr(mmap, "mmap", refused)
    else:
        monkeypatch.setattr(sys, "platform", "elsewhere")
    found, batches = opened("llama-untied")
    walked, heard = walked_in("llama-untied", "fp32", "bf16"), Heard()
    walked.run(batches, heard)
    for number, expected in enumerate(whole(found, "fp32", batches)):
        assert_same(tensors(heard.outputs[number]["fp32"]), expected)


@needs_linux
def test_a_file_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("this system sets memory aside for every mapping")
    path, size = tmp_path / "large", 4 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with path.open("wb+") as file:
        try:
            file.truncate(size)  # takes no room on the disk
        except OSError:
            pytest.skip("this file system has no such files")
        part = Mappings().part(path, file.fileno(), size - 8, 8)
    assert part is not None and part.tolist() == [0] * 8


def test_one_mapped_weight_is_needed_besides() -> None:
    walked = walked_in("llama-untied", "fp32")
    frame = walked.walkers[0].frame
    for unit in walked.units.streamed.values():
        if unit.kind == BLOCK:
            largest = max(slot.empty.nbytes for slot in frame.slots(unit))
            assert walked.needs()[unit.name] == frame.private(unit) + largest < frame.bytes(unit)


def test_what_stays_in_memory_is_not_mapped(tmp_path: Path) -> None:
    folder = checkpoints.make("llama-untied", tmp_path / "whole")
    found, batches = checkpoint.read(folder), opened("llama-untied")[1]
    walked, heard = Streamed(found, [Way("fp32", PRECISIONS["fp32"])]), Heard()
    walked.hold_where_small(10**9)
    assert walked.held
    walked.run(batches, heard)
    (folder / "model.safetensors").write_bytes(b"")  # the worker keeps models from one job to the next
    again = Heard()
    walked.run(batches, again)
    for number in range(len(batches)):
        assert_same(tensors(again.outputs[number]["fp32"]), tensors(heard.outputs[number]["fp32"]))
