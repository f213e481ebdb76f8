"""The streamed pass gives bit for bit what whole models give, and holds no more than a part of one."""

import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaModel

from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, NothingConverted, OutOfBudget
from qfund.core.machine import RESERVE
from qfund.features.compare.measure import streamed
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.measure.drift import Drift
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.models import footprint, inputs, loading, tasks
from qfund.models.forward import arguments, arithmetic
from qfund.models.skeleton import Skeletons
from qfund.precisions.quantizers import pieces
from qfund.precisions.quantizers.plan import LINEAR
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from qfund.stream import head, reader, units
from qfund.stream.disk import Disk
from qfund.stream.held.lanes import Lanes
from qfund.stream.quantized import Quantized
from qfund.stream.streamed import Streamed
from qfund.stream.units import BLOCK, EMBEDDING, HEAD
from qfund.stream.walker import NotStreamable, UnknownTail, Way
from tests.tiny import checkpoints, planned

ROOT = Path(__file__).resolve().parents[2]
ROWS = ("fp32", "bf16", "fp16", "int8", "int4_asym", "nf4_bf16", "nvfp4", "int8_dynamic", "bf16_autocast")
#: Rows that are walked alike: an architecture is walked in one of each pair, and the next one in the other.
PAIRS = (("fp16", "bf16_autocast"), ("int8", "nvfp4"), ("int4_asym", "nf4_bf16"))
#: Architectures that are walked in all: linear layers, GPT-2's transposed ones, stacks of experts, two towers.
WHOLE = ("llama", "gpt2", "mixtral", "t5")


def rows_of(name: str) -> list[str]:
    spared = [pair[sorted(checkpoints.CHECKPOINTS).index(name) % 2] for pair in PAIRS]
    return [row for row in ROWS if name in WHOLE or row not in spared]


TEXT = checkpoints.TEXT * 2


@dataclass
class Heard:
    """A listener that keeps everything."""

    outputs: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    tiles: dict[tuple[int, str], list[Tensor]] = field(default_factory=dict)
    hidden: dict[tuple[str, str, int], Tensor] = field(default_factory=dict)

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None:
        self.hidden[way.name, name, batch] = hidden.clone()

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        self.outputs[batch] = outputs

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None:
        for name, part in logits.items():
            self.tiles.setdefault((batch, name), []).append(part)
            assert sum(tile.shape[-1] for tile in self.tiles[batch, name]) == start + part.shape[-1] <= vocabulary


def opened(name: str) -> tuple[Checkpoint, list[dict[str, Tensor]]]:
    """A tiny checkpoint, and its input in batches."""
    folder = checkpoints.folder(name)
    found = checkpoint.read(folder)
    task = tasks.task_of(found)
    spec = Spec(str(folder), text=TEXT if task.reads == "text" else None)
    prepared = inputs.prepare(spec, catalog.locate(str(folder)), found, task)
    return found, [batch.arguments for batch in prepared.batches]


def ways(found: Checkpoint, names: Sequence[str]) -> list[Way]:
    """Those precisions that convert something here."""
    possible, skeletons = [], Skeletons(found)
    for name in names:
        try:
            skeletons.footprint(PRECISIONS[name])
        except NothingConverted:
            continue
        possible.append(Way(name, PRECISIONS[name]))
    return possible


def whole(
    found: Checkpoint, name: str, batches: Sequence[Mapping[str, Tensor]], also: Sequence[str] = ()
) -> list[list[Tensor]]:
    """What the ordinary model gives for each batch."""
    row = PRECISIONS[name]
    model = loading.load(found, row, also).model
    given = []
    for batch in batches:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]), arithmetic(row):
            torch.manual_seed(0)
            given.append(tensors(model(**arguments(model, batch, torch.device("cpu")))))
    return given


def tensors(output: Any) -> list[Tensor]:
    return [part for part in output.to_tuple() if isinstance(part, Tensor)]


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def everything_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings and single layers are parts of their own, however small they are."""
    monkeypatch.setattr(units, "_SMALL", 0)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also where the suite runs in as many processes as there are cores, each with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(pieces, "pool", functools.cache(pieces.pool.__wrapped__))
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(checkpoints.CHECKPOINTS))
def test_every_architecture_gives_the_very_same_outputs(name: str, everything_streamed: None) -> None:
    found, batches = opened(name)
    asked = ways(found, rows_of(name))
    walked, heard = Streamed(found, asked), Heard()
    walked.run(batches, heard)
    assert len(walked.units.streamed) >= 2
    for way in asked:
        for number, expected in enumerate(whole(found, way.name, batches)):
            assert_same(tensors(heard.outputs[number][way.name]), expected)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "t5", "vit-classifier"])
def test_weights_that_stay_are_read_once_and_give_what_a_walk_gives(name: str, everything_streamed: None) -> None:
    found, batches = opened(name)
    asked = ways(found, ROWS)
    walked, walked_heard, held, heard = Streamed(found, asked), Heard(), Streamed(found, asked), Heard()
    held.hold_where_small(1 << 30)
    assert held.held
    with held.lanes.threaded():
        walked.run(batches, walked_heard)
    held.run(batches[:1], heard)
    read = held.reader.bytes_read
    held.walkers = held.walkers[:-1]  # a candidate that has left
    held.run(batches, heard)
    assert 0 < read == held.reader.bytes_read
    still = {walker.way.name for walker in held.walkers}
    assert {key for key in heard.hidden if key[0] in still} == {key for key in walked_heard.hidden if key[0] in still}
    for key, states in heard.hidden.items():
        assert torch.equal(states, walked_heard.hidden[key]), key
    for number in range(len(batches)):
        for walker in held.walkers:
            own = walker.way.name
            assert_same(tensors(heard.outputs[number][own]), tensors(walked_heard.outputs[number][own]))


@dataclass
class Resident(Heard):
    """Bytes of a way's weights that are there after each of its blocks."""

    walked: Streamed | None = None
    bytes: list[int] = field(default_factory=list)

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None:
        super().block(name, way, batch, hidden)
        if way.name == "few":
            assert self.walked is not None
            slots = self.walked.walkers[-1].frame.every_slot.values()
            here = {slot.owner: slot.tensor for slot in slots if slot.tensor.device.type != "meta"}
            self.bytes.append(sum(tensor.nbytes for tensor in here.values()))


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_a_few_batches_in_weights_of_their_own_take_one_part_of_them(name: str, everything_streamed: None) -> None:
    found, batches = opened(name)
    few = Way("few", PRECISIONS["fp64"], batches=1)
    held = Streamed(found, [Way("fp32", PRECISIONS["fp32"]), few])
    walked, walked_heard, heard = Streamed(found, [few]), Heard(), Resident(walked=held)
    held.hold_where_small(1 << 30)
    held.run(batches, heard)
    walked.run(batches, walked_heard)
    assert_same(tensors(heard.outputs[0]["few"]), tensors(walked_heard.outputs[0]["few"]))
    frame = held.walkers[-1].frame
    largest = max(map(frame.bytes, held.units.streamed.values()))
    assert 0 < max(heard.bytes) <= frame.bytes(held.units.resident) + largest
    assert not any(slot.tensor.device.type != "meta" for slot in frame.every_slot.values())


def test_what_is_too_large_does_not_stay(tiny_tiles: None) -> None:
    found, _ = opened("llama")
    walked = Streamed(found, [Way("fp32", PRECISIONS["fp32"])])
    walked.hold_where_small(sum(tensor.bytes for tensor in found.tensors.values()) // 2)
    assert not walked.held
    found, _ = opened("gemma2")
    walked = Streamed(found, [Way("fp32", PRECISIONS["fp32"])])
    walked.hold_where_small(1 << 30)
    assert not walked.held, "its logits are made in parts"


@pytest.mark.parametrize("held", [False, True])
def test_what_is_counted_is_what_whole_models_store(held: bool) -> None:
    found, batches = opened("gpt2")
    walked = Streamed(found, ways(found, ROWS), also=("head", "embeddings"))
    walked.held = held
    walked.run(batches[:1], Heard())
    for walker in walked.walkers:
        model = loading.load(found, walker.way.row, ("head", "embeddings"))
        counted = footprint.stored(walker.frame.model)
        assert counted.bytes == model.footprint.bytes
        assert counted.parts == model.footprint.parts
        assert counted.parameters == model.footprint.parameters
        assert walker.frame.model.get_memory_footprint() == model.transformers_bytes
        left = walker.frame.conversion.plan.left if walker.frame.conversion else ()
        assert left == model.left


def test_quantized_heads_and_embeddings_stay_tied(everything_streamed: None) -> None:
    found, batches = opened("llama")
    also = ("head", "embeddings")
    walked, heard = Streamed(found, [Way("int4", PRECISIONS["int4"])], also), Heard()
    walked.run(batches, heard)
    for number, expected in enumerate(whole(found, "int4", batches, also)):
        assert_same(tensors(heard.outputs[number]["int4"]), expected)


@pytest.mark.parametrize("name", ["llama-untied", "llama-sharded", "mixtral", "phi", "vit-classifier"])
def test_every_byte_is_read_once_whatever_the_number_of_precisions(name: str) -> None:
    found, batches = opened(name)
    walked = Streamed(found, ways(found, ROWS))
    walked.run(batches, Heard())
    assert walked.reader.bytes_read == sum(tensor.bytes for tensor in found.tensors.values())


def test_of_embeddings_only_the_rows_that_are_looked_up_are_read(everything_streamed: None) -> None:
    found, batches = opened("llama-untied")
    walked = Streamed(found, ways(found, ("fp32", "bf16", "int8")))
    walked.run(batches, Heard())
    table = found.tensors["model.embed_tokens.weight"]
    used = torch.cat([batch["input_ids"].flatten() for batch in batches]).unique().numel()
    unread = (table.shape[0] - used) * table.bytes // table.shape[0]
    assert unread > 0
    assert walked.reader.bytes_read == sum(tensor.bytes for tensor in found.tensors.values()) - unread


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every head is made in parts of 64 tokens."""
    monkeypatch.setattr(head, "WHOLE", 0)
    monkeypatch.setattr(head, "TILE", 1)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "t5", "bert-masked", "blip", "opt", "gpt-neox"])
def test_logits_by_parts_of_the_vocabulary(name: str, tiny_tiles: None, everything_streamed: None) -> None:
    """Tiles may differ from the whole product in the last bit: the one operation whose order of sums is the kernel's.
    Gemma 2 caps its logits after the head."""
    found, batches = opened(name)
    asked = ways(found, ("fp32", "bf16", "fp16", "int8", "bf16_autocast", "bf16_fp32_head"))
    heard = Heard()
    Streamed(found, asked).run(batches, heard)
    assert not heard.outputs and heard.tiles
    for way in asked:
        for number, (expected, *_) in enumerate(whole(found, way.name, batches)):
            logits = torch.cat(heard.tiles[number, way.name], -1)
            assert logits.dtype == expected.dtype and len(heard.tiles[number, way.name]) == 5  # of 300 tokens
            bound = 2 * torch.finfo(logits.dtype).eps * float(expected.abs().max())
            torch.testing.assert_close(logits, expected, rtol=0, atol=bound)


def test_a_head_whose_output_is_changed_in_an_unknown_way_is_run_whole(tiny_tiles: None, tmp_path: Path) -> None:
    folder = checkpoints.make("bart", tmp_path / "biased")
    weights = load_file(folder / "model.safetensors")
    weights["final_logits_bias"] = torch.linspace(-1, 1, weights["final_logits_bias"].numel())[None]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnknownTail):
        Streamed(checkpoint.read(folder), [Way("fp32", PRECISIONS["fp32"])]).run(opened("bart")[1], Heard())
    report = compare(Spec(str(folder), precisions=("bf16",), text=TEXT))
    assert report.whole is None
    found = checkpoint.read(folder)
    heard = Heard()
    Streamed(found, [Way("fp32", PRECISIONS["fp32"])], tiles=False).run(opened("bart")[1], heard)
    assert not heard.tiles
    assert_same(tensors(heard.outputs[0]["fp32"])[:1], whole(found, "fp32", opened("bart")[1][:1])[0][:1])


def test_ways_that_change_nothing_change_nothing_here(two_threads: None) -> None:
    """Other threads, examples one by one, and the same model with eager attention."""
    found, batches = opened("llama")
    row = PRECISIONS["fp32"]
    asked = [
        Way("reference", row),
        Way("threads", row, threads=1),
        Way("singly", row, singly=True, batches=1),
        Way("eager", row, attention="eager"),
    ]
    walked, heard = Streamed(found, asked), Heard()
    threads = torch.get_num_threads()
    walked.run(batches, heard)
    assert torch.get_num_threads() == threads
    reference = heard.outputs[0]["reference"].logits
    for name in ("threads", "eager"):
        torch.testing.assert_close(heard.outputs[0][name].logits, reference, rtol=1e-4, atol=1e-5)
    singly = heard.outputs[0]["singly"]
    assert len(singly) == len(reference) > 1
    torch.testing.assert_close(torch.cat([part.logits for part in singly]), reference, rtol=1e-4, atol=1e-5)
    assert "singly" not in heard.outputs[len(batches) - 1]
    assert walked.walkers[3].frame.model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("llama-untied", [EMBEDDING, BLOCK, BLOCK, HEAD]),
        ("llama", [EMBEDDING, BLOCK, BLOCK, HEAD]),
        ("t5", [EMBEDDING, EMBEDDING, BLOCK, BLOCK, EMBEDDING, BLOCK, BLOCK, HEAD]),
        ("bert-encoder", [EMBEDDING, EMBEDDING, EMBEDDING, BLOCK, BLOCK, "layer"]),
    ],
)
def test_what_is_streamed(name: str, kinds: list[str], everything_streamed: None) -> None:
    model = loading.frame(opened(name)[0], "float32")
    found = units.find(model)
    assert [unit.kind for unit in found.streamed.values()] == kinds
    inside = [module for unit in (found.resident, *found.streamed.values()) for module in unit.modules]
    assert sorted(inside) == sorted(name for name, _ in model.named_modules()), "each module is in one part"


def test_layers_stay_where_a_model_multiplies_by_them_itself(everything_streamed: None) -> None:
    model = loading.frame(opened("llama")[0], "float32")
    assert [unit.kind for unit in units.find(model, layers=False).streamed.values()] == [BLOCK, BLOCK, HEAD]


def test_a_model_that_uses_weights_elsewhere_is_told_from_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = opened("llama")
    original = LlamaModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * self.layers[0].input_layernorm.weight
        return output

    monkeypatch.setattr(LlamaModel, "forward", forward)
    with pytest.raises(NotStreamable, match="stopped with"):
        Streamed(found, [Way("fp32", PRECISIONS["fp32"])]).run(batches, Heard())


def test_after_a_cancelled_walk_nothing_is_left() -> None:
    found, batches = opened("llama")
    walked = Streamed(found, ways(found, ("fp32", "int8")))

    class Cancelled(Exception):
        pass

    def progress(phase: str, share: float) -> None:
        assert 0 <= share <= 1
        if phase == "running model.layers.1":
            raise Cancelled

    with pytest.raises(Cancelled):
        walked.run(batches, Heard(), progress)
    for walker in walked.walkers:
        assert not walker.every_pass
        assert all(slot.tensor.device.type == "meta" for slot in walker.frame.every_slot.values())
    heard = Heard()
    walked.run(batches, heard)
    assert_same(tensors(heard.outputs[0]["int8"]), whole(found, "int8", batches[:1])[0])


def test_hidden_states_are_those_after_each_block() -> None:
    found, batches = opened("gpt2")
    heard = Heard()
    Streamed(found, ways(found, ("fp32", "bf16"))).run(batches, heard)
    model = loading.load(found, PRECISIONS["bf16"]).model
    with torch.inference_mode():
        states = model(**batches[0], output_hidden_states=True).hidden_states
    assert torch.equal(heard.hidden["bf16", "transformer.h.0", 0], states[1])
    drift, whole_batches, blocks = Drift(), Drift(whole=True), ("transformer.h.0", "transformer.h.1")
    for block in blocks:
        drift.reference(block, 0, heard.hidden["fp32", block, 0])
        drift.candidate("bf16", block, 0, heard.hidden["bf16", block, 0])
        whole_batches.reference(block, 0, heard.hidden["fp32", block, 0])
    for block in blocks:
        whole_batches.candidate("bf16", block, 0, heard.hidden["bf16", block, 0])
    whole_batches.done(0)
    whole_batches.candidate("bf16", blocks[0], 0, heard.hidden["bf16", blocks[0], 0])  # of no reference any more
    assert whole_batches.of("bf16") == drift.of("bf16")
    for row in drift.of("bf16"):
        a, b = (heard.hidden[name, row.block, 0].double() for name in ("fp32", "bf16"))
        ratio = float(((a - b) ** 2).sum() / (a**2).sum())
        assert row.relative_l2 == pytest.approx(ratio**0.5, rel=1e-5)
        assert row.sqnr == pytest.approx(-10 * torch.tensor(ratio).log10().item(), rel=1e-5)
        gap = 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1).mean().item()
        assert 1 - row.cosine == pytest.approx(gap, rel=1e-3)
        assert row.nonfinite == 0


def test_drift_counts_what_is_not_finite_and_is_zero_for_equals() -> None:
    drift, states = Drift(), torch.ones(1, 3, 4)
    drift.reference("b", 0, states)
    broken = states.clone()
    broken[0, 1, 2] = torch.inf
    drift.candidate("broken", "b", 0, broken)
    drift.candidate("same", "b", 0, states.clone())
    [row] = drift.of("broken")
    assert (row.nonfinite, row.relative_l2, row.cosine, row.sqnr) == (1, 0.0, 1.0, None)
    [row] = drift.of("same")
    assert (row.nonfinite, row.relative_l2, row.cosine, row.sqnr) == (0, 0.0, 1.0, None)


def test_a_part_larger_than_the_budget_is_refused_before_anything_is_read() -> None:
    found, _ = opened("llama-untied")
    walked = Streamed(found, ways(found, ("fp32", "bf16", "int4")))
    needs = walked.needs()
    walked.must_fit(needs[""] + max(size for name, size in needs.items() if name))
    with pytest.raises(OutOfBudget, match=r"its largest part, .*, needs .*; this process may hold"):
        walked.must_fit(needs[""] + max(size for name, size in needs.items() if name) - 1)
    assert walked.reader.bytes_read == 0


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    folder = checkpoints.make("llama", tmp_path / "cut")
    _, batches = opened("llama")
    found = checkpoint.read(folder)
    walked = Streamed(found, [Way("fp32", PRECISIONS["fp32"])])
    walked.ahead.room = 0
    path = folder / "model.safetensors"

    def progress(phase: str, share: float) -> None:
        if phase == "running model.layers.1":
            path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ModelNotFound, match=r"can no longer be read: the file has become shorter"):
        walked.run(batches, Heard(), progress)


@given(st.sets(st.integers(0, 60)))
def test_runs_of_numbers(numbers: set[int]) -> None:
    runs = list(reader._runs(sorted(numbers)))
    assert [number for start, count in runs for number in range(start, start + count)] == sorted(numbers)
    assert all(one + count < other for (one, count), (other, _) in pairwise(runs))


@pytest.mark.parametrize("name", [name for name, row in PRECISIONS.items() if row.quantizer])
def test_pieces_of_a_weight_are_quantized_as_the_whole(
    name: str, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 3 * 128)
    monkeypatch.setattr(pieces, "_DECODED", 3 * 128)
    row = PRECISIONS[name]
    quantizer = quantizer_of(row)
    assert quantizer is not None
    weight = torch.randn(20, 128, generator=torch.Generator().manual_seed(1)).to(getattr(torch, row.dtype))
    weight[7] *= 300
    for values in (weight, weight[:, :70].contiguous()):
        stored, clipped = pieces.quantize("w", values, LINEAR, quantizer)
        expected, count = pieces.at_once("w", values, LINEAR, quantizer)
        assert clipped == count and stored.keys() == expected.keys()
        for key, tensor in stored.items():
            assert tensor.dtype == expected[key].dtype
            assert torch.equal(tensor.view(torch.uint8), expected[key].view(torch.uint8))
        shape = values.shape[0], values.shape[1]
        assert torch.equal(
            pieces.dequantize(quantizer, stored, shape, values.dtype),
            quantizer.dequantize(stored, shape, values.dtype),
        )


def test_a_weight_that_is_not_finite_is_named() -> None:
    weight = torch.ones(4096, 256)
    weight[4000, 3] = torch.nan
    quantizer = quantizer_of(PRECISIONS["int8"])
    assert quantizer is not None
    with pytest.raises(CorruptCheckpoint, match=r"1 of the 1,048,576 values of layer\.weight are NaN or infinite"):
        pieces.quantize("layer.weight", weight, LINEAR, quantizer)


class TestDisk:
    def run(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> tuple[Heard, list[str]]:
        """A walk that keeps codes on this disk, and the weights that it had to quantise."""
        found, batches = opened("llama")
        made: list[str] = []
        original = pieces.quantize

        def counted(name: str, *weight: Any) -> Any:
            made.append(name)
            return original(name, *weight)

        monkeypatch.setattr(pieces, "quantize", counted)
        walked, heard = Streamed(found, ways(found, ("mxfp4", "int4", "fp8_e4m3"))), Heard()
        walked.quantized = Quantized(disk)
        walked.run(batches, heard)
        self.saturated = walked.quantized.saturated
        return heard, made

    def test_the_second_walk_quantizes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk = Disk(tmp_path, 10**9)
        first, made = self.run(disk, monkeypatch)
        assert len(made) == 3 * 2 * 7 and (disk.found, disk.missed) == (0, 6)
        clipped = self.saturated
        assert clipped["mxfp4"]
        again, made = self.run(Disk(tmp_path, 10**9), monkeypatch)
        assert made == [] and self.saturated == clipped
        for name in ("mxfp4", "int4", "fp8_e4m3"):
            assert torch.equal(first.outputs[0][name].logits, again.outputs[0][name].logits)

    def test_without_a_budget_nothing_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run(Disk(tmp_path / "none", 0), monkeypatch)
        assert not (tmp_path / "none").exists()

    def test_the_least_recently_used_entry_goes_first(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path, 3500)
        codes = {"codes": torch.zeros(1000, dtype=torch.uint8)}
        for number, name in enumerate("abc"):
            disk.write((name,), codes, {})
            os.utime(disk._path((name,)), (number, number))
        assert disk.read(("a",)) is not None  # used now
        disk.write(("d",), codes, {})
        assert [disk.read((name,)) is not None for name in "abcd"] == [True, False, True, True]
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3500

    def test_what_is_not_whole_is_never_read(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path, 10**6)
        disk.write(("a",), {"codes": torch.arange(100)}, {"note": "1"})
        path = disk._path(("a",))
        whole_file = path.read_bytes()
        for broken in (b"", whole_file[:50], whole_file[:-1], b"\xff" * 200):
            path.write_bytes(broken)
            assert disk.read(("a",)) is None
        disk.write(("a",), {"codes": torch.arange(100)}, {"note": "1"})
        found = disk.read(("a",))
        assert found is not None and torch.equal(found[0]["codes"], torch.arange(100)) and found[1]["note"] == "1"

    def test_unfinished_files_of_the_dead_are_swept(self, tmp_path: Path) -> None:
        left, fresh = tmp_path / "x.1.unfinished", tmp_path / "y.2.unfinished"
        left.write_bytes(b"half")
        fresh.write_bytes(b"half")
        os.utime(left, (0, 0))
        Disk(tmp_path, 10**6).write(("a",), {"codes": torch.zeros(1)}, {})
        assert not left.exists() and fresh.exists()

    def test_a_disk_that_refuses_is_no_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        disk = Disk(tmp_path / "file" / "below", 10**6)
        disk.write(("a",), {"codes": torch.zeros(1)}, {})
        assert disk.read(("a",)) is None

    def test_what_is_free_is_left_to_results(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk, codes = Disk(tmp_path, 10**6), {"codes": torch.zeros(1000, dtype=torch.uint8)}
        disk.write(("a",), codes, {})
        monkeypatch.setattr("qfund.stream.disk.free_bytes", lambda folder: RESERVE)
        disk.write(("b",), codes, {})  # what "a" took is enough
        assert [disk.read((name,)) is not None for name in "ab"] == [False, True]
        monkeypatch.setattr("qfund.stream.disk.free_bytes", lambda folder: 0)
        disk.write(("c",), codes, {})
        assert [disk.read((name,)) is not None for name in "abc"] == [False, False, False]

    def test_keys_differ_in_every_part(self, tmp_path: Path) -> None:
        disk = Disk(tmp_path, 10**6)
        keys = [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c")]
        assert len({disk._path(key) for key in keys}) == len(keys)


def timeless(report: Report) -> Report:
    return replace(report, results=tuple(replace(row, forward_seconds=0.0) for row in report.results))


@Lanes(1, 1).threaded()  # with more, models in memory are side by side, a part of the threads each
def test_streamed_and_whole_measure_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(str(checkpoints.folder("qwen3")), precisions=("bf16", "int4", "nf4"), text=TEXT)
    walked = timeless(compare(spec))
    with monkeypatch.context() as without:
        without.setattr(streamed, "HELD", 0)
        again = timeless(compare(spec))
    assert walked.whole is None and [run.name for run in walked.noise] == ["threads", "batch", "attention", "fp64"]
    monkeypatch.setattr(
        streamed, "measure_streamed", lambda *_, **__: (_ for _ in ()).throw(NotStreamable("it is a test"))
    )
    whole_models = compare(spec)
    assert whole_models.whole == "it is a test" and whole_models.noise == ()
    assert (again.results, again.noise, again.tokens) == (walked.results, walked.noise, walked.tokens)
    for one, other in zip(walked.results, whole_models.results, strict=True):
        assert one.fidelity == other.fidelity
        assert (one.footprint_bytes, one.tensors) == (other.footprint_bytes, other.tensors)
        assert (one.converted_modules, one.left_modules) == (other.converted_modules, other.left_modules)
        assert len(one.drift) == 2 and not other.drift
    assert walked.tokens == whole_models.tokens


def test_a_noise_run_that_a_model_does_not_take_is_left_out() -> None:
    """Mixtral's grouped product knows no double precision."""
    report = compare(Spec(str(checkpoints.folder("mixtral")), precisions=("bf16",), text=TEXT))
    assert report.whole is None
    assert [run.name for run in report.noise] == ["threads", "batch", "attention"]


def test_a_report_of_tiles_is_that_of_whole_logits(tiny_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(str(checkpoints.folder("gemma2")), precisions=("bf16", "int4"), text=TEXT)
    tiled = compare(spec)
    monkeypatch.setattr(head, "WHOLE", 10**9)
    once = compare(spec)
    for one, other in zip(tiled.results, once.results, strict=True):
        assert one.fidelity.keys() == other.fidelity.keys()
        for name, estimate in one.fidelity.items():
            assert estimate.value == pytest.approx(other.fidelity[name].value, rel=1e-5, abs=1e-9), name
    assert tiled.tokens is not None and once.tokens is not None
    assert tiled.tokens.reference.tokens == once.tokens.reference.tokens


_HAMMER = """
import sys, random
from pathlib import Path
import torch
from qfund.stream.disk import Disk
disk, random_ = Disk(Path(sys.argv[1]), 60_000), random.Random(int(sys.argv[2]))
for _ in range(400):
    number = random_.randrange(12)
    found = disk.read((str(number),))
    if found is None:
        disk.write((str(number),), {"codes": torch.full((8000,), number, dtype=torch.uint8)}, {"of": str(number)})
    else:
        assert found[1]["of"] == str(number) and bool((found[0]["codes"] == number).all()), "not whole"
print(disk.found, disk.missed)
"""


def test_two_processes_share_a_disk(tmp_path: Path) -> None:
    """More than fits is written by both, and dropped by both: what is read is always whole."""
    command = [sys.executable, "-W", "ignore", "-c", _HAMMER, str(tmp_path)]
    both = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True, cwd=ROOT) for seed in (1, 2)]
    for one in both:
        found, missed = map(int, one.communicate()[0].split())
        assert one.returncode == 0 and found > 50 and missed > 20
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 60_000 + 2 * 8200


def anything(found: Checkpoint) -> dict[str, Tensor]:
    """Something that the model's forward takes, whatever kind it is."""
    config = tasks.read_config(found)
    reads = inspect.signature(loading.frame(found, "float32").forward).parameters
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, min(getattr(config.get_text_config(), "vocab_size", None) or 256, 200), (2, 16))
    arguments: dict[str, Tensor] = {}
    spliced = any(getattr(config, name, None) is not None for name in ("image_token_index", "image_token_id"))
    if "input_features" in reads:
        shape = (2, config.num_mel_bins, 2 * config.max_source_positions)
        arguments["input_features"] = torch.randn(shape, generator=generator)
    elif "input_values" in reads:
        arguments["input_values"] = torch.randn((2, 4000), generator=generator)
    elif "input_ids" in reads:
        arguments |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        arguments = {name: value for name, value in arguments.items() if name in reads}
    if "pixel_values" in reads and not spliced:
        sight = getattr(config, "vision_config", None) or config
        size = getattr(sight, "image_size", None) or 32
        arguments["pixel_values"] = torch.randn((2, sight.num_channels, size, size), generator=generator)
    if "decoder_input_ids" in reads and getattr(config, "is_encoder_decoder", False):
        arguments["decoder_input_ids"] = ids
    return arguments


#: Blip-2 wants placeholders among its tokens, the spectrogram's and XLNet's forward fail whole too.
NOT_RUN = {"blip-2", "audio-spectrogram", "xlnet"}


@pytest.mark.parametrize("name", sorted(planned.ALONE.keys() - NOT_RUN))
def test_kinds_that_are_not_compared_stream_too(name: str, everything_streamed: None) -> None:
    """Speech, pictures, experts, state spaces, shared layers: the very same outputs as of whole models."""
    found = checkpoint.read(planned.folder(name))
    batch = anything(found)
    asked = ways(found, ("fp32", "bf16", "int8"))
    heard = Heard()
    try:
        Streamed(found, asked).run([batch], heard)
    except NotStreamable:  # DeBERTa multiplies by its position embeddings
        heard = Heard()
        Streamed(found, asked, layers=False).run([batch], heard)
    for way in asked:
        assert_same(tensors(heard.outputs[0][way.name]), whole(found, way.name, [batch])[0])
