"""Weights that come some rows at a time, into groups of precisions: the same as whole ones, in less memory."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint
from qfund.core.errors import CorruptCheckpoint
from qfund.precisions.quantizers import pieces
from qfund.precisions.table import PRECISIONS
from qfund.stream import groups, streamed
from qfund.stream.disk import Disk
from qfund.stream.filling import made, transient
from qfund.stream.groups import grouped, held
from qfund.stream.quantized import Quantized
from qfund.stream.streamed import Streamed
from qfund.stream.units import BLOCK
from qfund.stream.walker import Way
from tests.stream.test_experts import KINDS
from tests.stream.test_experts import opened as experts
from tests.stream.test_stream import ROWS, Heard, assert_same, opened, tensors, ways, whole
from tests.tiny import checkpoints

#: Layers as they are, turned, stored in another dtype, joined, with experts stored one by one, with convolutions, tied.
NAMES = ["bloom", "gpt2", "llama-stored-bf16", "mamba", "mixtral", "resnet-classifier", "t5", "vit-classifier"]


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight comes by a few rows, and a part is in as few precisions at once as can be."""
    monkeypatch.setattr(pieces, "PIECE", 128)
    monkeypatch.setattr(groups, "SMALL", 0)
    monkeypatch.setattr(streamed, "SMALL", 0)


@pytest.mark.parametrize("name", NAMES)
def test_weights_by_rows_give_the_very_same_outputs(name: str, by_rows: None) -> None:
    found, batches = opened(name)
    asked = ways(found, ROWS)
    walked, heard = Streamed(found, asked), Heard()
    walked.run(batches, heard)
    for way in asked:
        for number, expected in enumerate(whole(found, way.name, batches)):
            assert_same(tensors(heard.outputs[number][way.name]), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_experts_by_rows_too(kind: str, by_rows: None) -> None:
    found = experts(kind)
    batches = [{"input_ids": torch.randint(3, 300, (2, 12), generator=torch.Generator().manual_seed(1))}]
    walked, heard = (
        Streamed(found, [Way(row, PRECISIONS[row]) for row in ("fp32", "int8", "int4_bf16", "nf4")]),
        Heard(),
    )
    walked.run(batches, heard)
    for walker in walked.walkers:
        assert_same(tensors(heard.outputs[0][walker.way.name]), whole(found, walker.way.name, batches)[0])


def test_a_part_is_read_for_each_group_and_no_more_is_held_than_half_of_the_largest(by_rows: None) -> None:
    found, batches = opened("llama-untied")
    walked, largest = Streamed(found, ways(found, ("fp32", "bf16", "fp16", "int8", "int4"))), 0
    walked.ahead.room = 0  # a model that computes so little waits for its files most of the time
    block = next(unit for unit in walked.units.streamed.values() if unit.kind == BLOCK)
    sizes = {walker.way.name: walker.frame.bytes(block) for walker in walked.walkers}
    assert sizes["bf16"] == sizes["fp16"] == sizes["fp32"] // 2
    found_groups = walked._groups(block)
    assert [[frame.row.name for frame in group.frames] for group in found_groups] == [
        ["fp32", "int8", "int4"],
        ["bf16"],
        ["fp16"],
    ]

    class Watched(Heard):
        def block(self, name: str, way: Way, batch: int, hidden: torch.Tensor) -> None:
            nonlocal largest
            there = {
                tensor.data_ptr(): tensor.nbytes
                for walker in walked.walkers
                for slot in walker.frame.slots(walked.units.streamed[name])
                if slot.name not in walker.frame.mapped and (tensor := slot.tensor).device.type != "meta"
            }
            largest = max(largest, sum(there.values()))

    walked.run(batches, Watched())
    assert largest == max(group.bytes for group in found_groups) == sizes["bf16"]
    blocks = [unit for unit in walked.units.streamed.values() if unit.kind == BLOCK]
    again = 2 * sum(walked.reader.bytes(walked._any, unit) for unit in blocks)
    assert walked.reader.bytes_read == again + sum(tensor.bytes for tensor in found.tensors.values())


def test_groups_hold_as_much_as_they_may_and_twins_nothing() -> None:
    found, _ = opened("llama")
    asked = [*ways(found, ("fp32", "bf16", "int8", "int4")), Way("eager", PRECISIONS["fp32"], attention="eager")]
    walked = Streamed(found, asked)
    block = next(unit for unit in walked.units.streamed.values() if unit.kind == BLOCK)
    frames = [walker.frame for walker in walked.walkers]
    for frame in frames:
        frame.mapped = set()
    assert frames[0] is not frames[-1] and held(block, [frames[0], frames[-1]]) == frames[0].bytes(block)
    for limit in (0, frames[0].bytes(block), held(block, frames)):
        parts = grouped(block, frames, limit)
        assert sorted(frame.row.name for part in parts for frame in part.frames) == sorted(
            frame.row.name for frame in frames
        )
        assert parts[0].frames[0] is frames[0]
        assert all(part.bytes <= limit or held(block, part.frames[:1]) == part.bytes for part in parts)
    assert len(parts) == 1 and parts[0].bytes == sum(frame.bytes(block) for frame in frames[:-1])


def test_a_value_that_is_not_finite_is_counted_in_the_whole_weight(by_rows: None, tmp_path: Path) -> None:
    folder = checkpoints.make("llama-untied", tmp_path / "broken")
    path = folder / "model.safetensors"
    held = load_file(path)
    held["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.inf
    held["model.layers.1.mlp.up_proj.weight"][40, 2] = torch.nan
    save_file(held, path, {"format": "pt"})
    found, batches = checkpoint.read(folder), opened("llama-untied")[1]
    with pytest.raises(CorruptCheckpoint, match=r"^2 of the .* values of model\.layers\.1\.mlp\.up_proj\.weight"):
        Streamed(found, [Way(row, PRECISIONS[row]) for row in ("fp32", "int8")]).run(batches, Heard())


def test_codes_on_disk_need_no_weights(by_rows: None, tmp_path: Path) -> None:
    found, _ = opened("llama-untied")
    walked = Streamed(found, [Way(row, PRECISIONS[row]) for row in ("fp32", "int8")])
    block = next(unit for unit in walked.units.streamed.values() if unit.kind == BLOCK)
    frame, source = walked.walkers[1].frame, walked._first
    with torch.inference_mode(), source.reader:
        first = made(source, block, [frame], Quantized(Disk(tmp_path, 10**9)))[frame]
        before = source.reader.bytes_read
        again = made(source, block, [frame], Quantized(Disk(tmp_path, 10**9)))[frame]
    assert first.keys() == again.keys() == {slot.name for slot in frame.slots(block)}
    assert all(torch.equal(first[name], again[name]) for name in first)
    norms = sum(
        tensor.bytes for name, tensor in found.tensors.items() if name.startswith(block.name) and "norm" in name
    )
    assert source.reader.bytes_read - before == norms < before


def test_what_making_a_group_takes_besides_is_of_weights_that_come_whole(by_rows: None) -> None:
    found, _ = opened("llama-untied")
    walked = Streamed(found, [Way(row, PRECISIONS[row]) for row in ("fp32", "int8", "nvfp4")])
    block = next(unit for unit in walked.units.streamed.values() if unit.kind == BLOCK)
    inside = [tensor for name, tensor in found.tensors.items() if name.startswith(f"{block.name}.")]
    norm = max(tensor.bytes for tensor in inside if len(tensor.shape) == 1)
    matrix = max(tensor.bytes for tensor in inside)
    reference, int8, nvfp4 = (walker.frame for walker in walked.walkers)
    assert transient(walked._first, block, [int8]) == norm
    assert transient(walked._first, block, [reference, int8]) == matrix, "one that is mapped is there at a time"
    assert transient(walked._first, block, [nvfp4]) == 2 * matrix, (
        "its scale is of all of a weight: as read, and as base"
    )
    assert walked.needs()[block.name] == max(
        group.bytes + (2 * matrix if nvfp4 in group.frames else matrix if reference in group.frames else norm)
        for group in walked._groups(block)
    )
