"""A tied tensor that the file holds twice counts once, as transformers ties it: where the two are equal."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from qfund.checkpoints import checkpoint, ties
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.models import footprint, loading
from qfund.models.skeleton import Skeletons
from qfund.precisions.table import PRECISIONS
from qfund.stream.streamed import Streamed
from qfund.stream.walker import NotStreamable, Way
from tests.stream.test_stream import Heard, assert_same, opened, tensors, whole
from tests.tiny import checkpoints

#: Checkpoint → the tensor that is stored, and those that the config ties to it.
TIED = {
    "llama": ("model.embed_tokens.weight", ["lm_head.weight"]),
    "gpt2": ("transformer.wte.weight", ["lm_head.weight"]),
    "t5": ("shared.weight", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"]),
}


def stored_twice(name: str, folder: Path, change: Callable[[Tensor], Tensor] = torch.clone) -> Checkpoint:
    """The checkpoint with a copy under each of the names; ``change`` makes it another one."""
    checkpoints.make(name, folder)
    held = load_file(folder / "model.safetensors")
    source, targets = TIED[name]
    save_file(
        held | {target: change(held[source]) for target in targets}, folder / "model.safetensors", {"format": "pt"}
    )
    return checkpoint.read(folder)


@pytest.mark.parametrize("name", TIED)
def test_equal_copies_count_once_and_give_the_same(name: str, tmp_path: Path) -> None:
    found, rows = stored_twice(name, tmp_path), ("fp32", "bf16", "int8")
    assert set(TIED[name][1]) <= set(found.tensors)
    batches = opened(name)[1][:1]
    walked, heard = Streamed(found, [Way(row, PRECISIONS[row]) for row in rows]), Heard()
    walked.run(batches, heard)
    for walker in walked.walkers:
        row = walker.way.row
        counted, loaded = footprint.stored(walker.frame.model), loading.load(found, row).footprint
        assert (counted.bytes, counted.parameters) == (loaded.bytes, loaded.parameters)
        assert_same(tensors(heard.outputs[0][row.name]), whole(found, row.name, batches)[0])
    truth = type(walked.walkers[0].frame.model).from_pretrained(tmp_path, dtype=torch.float32)
    assert footprint.stored(walked.walkers[0].frame.model).bytes == truth.get_memory_footprint()


def test_different_copies_are_two_weights(tmp_path: Path) -> None:
    found = stored_twice("llama", tmp_path, lambda source: source + 1)
    batches = opened("llama")[1][:1]
    walked, heard = Streamed(found, [Way("bf16", PRECISIONS["bf16"])]), Heard()
    walked.run(batches, heard)
    assert (
        footprint.stored(walked.walkers[0].frame.model).bytes == loading.load(found, PRECISIONS["bf16"]).footprint.bytes
    )
    assert_same(tensors(heard.outputs[0]["bf16"]), whole(found, "bf16", batches)[0])


def test_what_is_equal_once_it_is_rounded_is_foretold_as_it_is_loaded(tmp_path: Path) -> None:
    found = stored_twice("llama", tmp_path, lambda source: source.bfloat16().float())
    skeletons = Skeletons(found)
    for name in ("fp32", "bf16"):
        row = PRECISIONS[name]
        truth = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, row.dtype))
        foretold, loaded = skeletons.footprint(row), loading.load(found, row).footprint
        assert foretold.bytes == loaded.bytes == truth.get_memory_footprint(), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_are_the_same_where_torch_casts_them_to_the_same(dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = torch.randn(64, 96, dtype=torch.float64)
    held = {
        **{"f64": wide, "f32": wide.float(), "f16": wide.half(), "bf16": wide.bfloat16()},
        **{"of-f16": wide.half().float(), "zero": torch.zeros(64, 96), "minus": -torch.zeros(64, 96)},
        **{"large": wide.float() * 1e30, "larger": wide.float() * 1e31},  # both overflow in half precision
    }
    checkpoints.make("llama", tmp_path)
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    found = checkpoint.read(tmp_path)
    for one in held:
        for other in held:
            cast = [held[name].to(getattr(torch, dtype)) for name in (one, other)]
            assert ties.same(found, one, other, dtype).same == torch.equal(*cast), (one, other)


def test_copies_that_are_equal_only_once_they_are_rounded_are_not_streamed_beside_each_other(tmp_path: Path) -> None:
    found = stored_twice("llama", tmp_path, lambda source: source.bfloat16().float())
    Streamed(found, [Way("bf16", PRECISIONS["bf16"])])
    with pytest.raises(NotStreamable, match="equal in some of the precisions only"):
        Streamed(found, [Way(row, PRECISIONS[row]) for row in ("fp32", "bf16")])
