"""A rounded KV cache: bit for bit what libraries store, bytes as ``fits`` has them, and what is refused."""

import importlib.util
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, quants
from transformers import DynamicCache
from transformers.cache_utils import Fp8QuantizedLayer

from qfund import cli
from qfund.core.errors import InvalidSpec, UnknownName, UnsupportedModel
from qfund.engine import key_of, shipped
from qfund.features.kv import figures, link, tables, words
from qfund.features.kv.measure import needle
from qfund.features.kv.measure.kv import bands, kv
from qfund.features.kv.request import DEFAULT_KV, Kv, KvRequest, checked
from qfund.features.memory.request.kv_cache import CacheLayers, kv_bytes
from qfund.models.decoding import cache as caches
from qfund.models.decoding.rounding import Rounder, rounders
from qfund.precisions.caches import KV_CHOICES, KV_FORMATS, parts, title
from tests.tiny import checkpoints
from tests.ui.pages import FakeJobs, opened, texts

MODEL = "pydoc-llama"
TEXT = checkpoints.TEXT * 2
LAYERS, CHANNELS = 6, 128  # of pydoc-llama: 4 heads of 32 for keys, and for values


@pytest.fixture(scope="module")
def found() -> Kv:
    return kv(KvRequest(MODEL, (*KV_CHOICES, "q8_0/q4_0", "fp32/q4_0"), text=TEXT, context=64, max_tokens=128))


def test_float_caches_of_the_same_dtype_change_nothing(found: Kv) -> None:
    row = {row.kv: row for row in found.rows}["fp32"]
    assert row.kl is not None and row.kl.value == 0
    assert row.bytes == found.reference_bytes == found.tokens * LAYERS * 2 * CHANNELS * 4
    assert all(other.kl is not None and other.kl.value > 0 for other in found.rows if other.kv != "fp32")


def test_bytes_are_those_of_fits(found: Kv) -> None:
    layers = (CacheLayers("full attention", LAYERS, CHANNELS, 0),)
    for row in found.rows:
        keys, values = (kv_bytes(layers, 1, found.tokens, KV_FORMATS[name]) for name in parts(row.kv))
        assert row.bytes == keys + values, row.kv


def test_keys_and_values_apart_do_what_each_does(found: Kv) -> None:
    kl = {row.kv: row.kl.value for row in found.rows if row.kl}
    assert 0 < kl["fp32/q4_0"] < kl["q4_0"]
    assert kl["q8_0"] < kl["q8_0/q4_0"] < kl["q4_0"]


def test_every_kv_choice_has_a_rounder() -> None:
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    for name in KV_CHOICES:
        for rounder in rounders(name, name):
            error = (rounder(values) - values).norm() / values.norm()
            assert error < 0.2
            assert rounder.stored == KV_FORMATS[name].bytes(values.numel()), name


@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_blocks_are_those_of_gguf(name: str) -> None:
    values = torch.randn(33, 128, generator=torch.Generator().manual_seed(1)) * 3
    values[5] = 0
    kind = GGMLQuantizationType[name.upper()]
    expected = quants.dequantize(quants.quantize(values.numpy(), kind), kind)
    assert np.array_equal(Rounder(name)(values).numpy(), expected)


def test_fp8_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(2)
    pieces = [torch.randn(1, 2, count, 16, generator=generator) * count for count in (5, 1, 3)]
    theirs: Any = Fp8QuantizedLayer()
    rounder, mine = Rounder("fp8"), []
    for piece in pieces:
        theirs.update(piece, piece)
        matrix = piece[0].transpose(0, 1).reshape(piece.shape[2], -1)
        mine.append(rounder(matrix).reshape(-1, 2, 16).transpose(0, 1))
    assert torch.equal(torch.cat(mine, 1)[None], theirs._dequantize(theirs._quantized_keys))


def test_integers_by_hand() -> None:
    """−1 … 14 in 4 bits: scale 1 from the minimum on, every whole number exact and halves to the even code."""
    values = torch.arange(-1.0, 15.0).repeat(4)[None]
    assert torch.equal(Rounder("int4")(values), values)
    values[0, 3] = 2.5  # code 3.5, between 3 (2) and 4 (3): to the even one
    assert Rounder("int4")(values)[0, 3] == 3
    assert torch.equal(Rounder("int8")(torch.full((2, 64), 7.0)), torch.full((2, 64), 7.0))


@pytest.mark.skipif(importlib.util.find_spec("hqq") is None, reason="hqq is not installed")
@pytest.mark.parametrize("name", ["int4", "int8"])
def test_integers_are_nearly_as_close_as_those_that_hqq_improves(name: str) -> None:
    """HQQ moves its zero-points after the same minimum and maximum to lessen the error: no code need be the same."""
    from transformers.cache_utils import HQQQuantizedLayer

    values = torch.randn(1, 3, 40, 64, generator=torch.Generator().manual_seed(3))
    layer: Any = HQQQuantizedLayer(nbits=KV_FORMATS[name].bits, axis_key=1, axis_value=1)
    layer.lazy_initialization(values, values)
    theirs = layer._dequantize(layer._quantize(values, axis=1))
    matrix = values[0].transpose(0, 1).reshape(40, -1)
    mine = Rounder(name)(matrix).reshape(40, 3, 64).transpose(0, 1)[None]
    assert 0.9 < float((mine - values).norm() / (theirs - values).norm()) < 1.15


def test_kivi_groups_keys_along_a_channel() -> None:
    """A channel of outliers costs its neighbours nothing."""
    keys = torch.randn(32, 32, generator=torch.Generator().manual_seed(3))
    loud = keys.clone()
    loud[:, 4] *= 1000
    by_channel, by_token = (rounder(loud) for rounder in rounders("int4_kivi", "int4_kivi"))
    quiet = [place for place in range(32) if place != 4]
    assert torch.equal(by_channel[:, quiet], Rounder("int4_kivi", by_channel=True)(keys)[:, quiet])
    assert (by_channel - loud)[:, quiet].abs().max() < 0.3 < (by_token - loud)[:, quiet].abs().max()


def _model(name: str = "llama") -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(checkpoints.folder(name), dtype=torch.float32)


@torch.inference_mode()
def test_a_window_in_pieces_is_that_token_by_token() -> None:
    """Beside a plain cache in which the tokens of each full window are overwritten by hand."""
    model, window, first = _model(), 4, 3
    ids = torch.arange(3, 26)[None]
    cache: Any = caches.rounding(model.config, "bf16", "fp16", first, window)
    mine = [
        model(input_ids=piece, past_key_values=cache).logits for piece in (ids[:, :first], *ids[:, first:].split(4, 1))
    ]
    plain: Any = DynamicCache(config=model.config)
    theirs = []
    for place in range(ids.shape[1]):
        theirs.append(model(input_ids=ids[:, place : place + 1], past_key_values=plain).logits)
        done = place + 1 - first
        if done > 0 and done % window == 0:
            for layer in plain.layers:
                layer.keys[:, :, place + 1 - window : place + 1] = layer.keys[:, :, -window:].bfloat16().float()
                layer.values[:, :, place + 1 - window : place + 1] = layer.values[:, :, -window:].half().float()
    assert torch.allclose(torch.cat(mine, 1), torch.cat(theirs, 1), atol=1e-5)
    full = {
        place
        for layer in cache.layers
        for place in (layer.keys != layer.keys.bfloat16().float()).any(-1).nonzero()[:, 2].tolist()
    }
    assert full == {0, 1, 2}


@torch.inference_mode()
def test_it_generates() -> None:
    """In ``generate``, of several sequences at once, and as the reference where nothing is rounded."""
    model = _model()
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    plain = model.generate(ids, **options)
    same = model.generate(ids, past_key_values=caches.rounding(model.config, "fp32", "fp32"), **options)
    assert torch.equal(plain, same)
    cache: Any = caches.rounding(model.config, "bf16", "bf16")
    model.generate(ids, past_key_values=cache, **options)
    assert all(torch.equal(layer.keys, layer.keys.bfloat16().float()) for layer in cache.layers)


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(UnknownName, match="KV precision 'int5'"):
        checked(KvRequest(MODEL, ("int5",)))
    with pytest.raises(InvalidSpec, match="No KV precision"):
        checked(KvRequest(MODEL, ()))
    with pytest.raises(InvalidSpec, match="window is -1"):
        checked(KvRequest(MODEL, window=-1))
    with pytest.raises(InvalidSpec, match="nothing would be rounded"):
        kv(KvRequest(MODEL, ("bf16",), text=TEXT, context=32, window=32))
    with pytest.raises(UnsupportedModel, match="masked language model"):
        kv(KvRequest(str(checkpoints.folder("bert-masked")), ("bf16",), text=TEXT))
    with pytest.raises(UnsupportedModel, match="names no layers"):
        kv(KvRequest("dummy", ("bf16",)))
    assert checked(KvRequest(MODEL, ("FP8_E4M3", "kivi", "q8_0/q8_0"))).kv == ("fp8", "int4_kivi", "q8_0")


def test_a_row_that_groups_do_not_divide_is_refused_and_the_others_measured() -> None:
    result = kv(KvRequest(str(checkpoints.folder("llama")), ("bf16", "int8"), text=TEXT, context=16, max_tokens=32))
    good, bad = result.rows
    assert good.kl is not None and good.problem is None
    assert bad.kl is None and bad.problem is not None and "groups of 64" in bad.problem
    assert words.refused(result) == [f"int8 is left out: {bad.problem}"]
    result = kv(KvRequest(MODEL, ("int4_kivi",), text=TEXT, context=64, max_tokens=64, first=5))
    assert "multiples of 32" in str(result.rows[0].problem)
    assert words.headline(result) == "None of these caches could be measured."


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_a_sliding_window_is_rounded_and_counted_as_it_is_kept(name: str) -> None:
    """Windows of 12 tokens, in a context of 32."""
    asked = KvRequest(str(checkpoints.folder(name)), ("fp32", "bf16", "fp8"), text=TEXT, context=32, max_tokens=32)
    result = kv(asked)
    same, half, quarter = result.rows
    assert same.kl is not None and same.kl.value == 0 and same.bytes == result.reference_bytes
    assert half.kl is not None and half.kl.value > 0 and 2 * half.bytes == result.reference_bytes
    scales = 2 * 4 * 2  # of keys and values in two layers
    assert 4 * (quarter.bytes - scales) == result.reference_bytes


def test_bands_are_means_by_depth() -> None:
    made = bands(np.arange(16.0), np.arange(16), 16)
    assert [(band.start, band.end, band.kl, band.count) for band in made][:2] == [(0, 2, 0.5, 2), (2, 4, 2.5, 2)]
    assert len(bands(np.ones(3), np.array([0, 1, 15]), 16)) == 2


def test_bands_add_up_to_the_mean(found: Kv) -> None:
    for row in found.rows:
        assert row.kl is not None
        total = sum(band.count for band in row.bands)
        assert sum(band.kl * band.count for band in row.bands) / total == pytest.approx(row.kl.value)


def test_a_needle_is_asked_for_again_at_the_end() -> None:
    """By a reader that copies what followed the same two tokens before, which finds all; and by one that knows
    nothing."""
    ids = torch.arange(100, 164)[None]

    def copies(given: torch.Tensor) -> torch.Tensor:
        tokens, logits = given[0].tolist(), torch.zeros(given.shape[1], 200)
        pairs = list(pairwise(tokens))
        for place, pair in enumerate(pairs, 1):
            if pair in pairs[: place - 1]:
                logits[place, tokens[pairs.index(pair) + 2]] = 1
        return logits

    asked = len(needle.DEPTHS) * (needle.LENGTH - needle.CUE)
    right, count = needle.recalled(ids, copies)
    assert count == asked and asked - 1 <= right  # one pair stands by chance elsewhere too
    assert needle.recalled(ids, lambda given: torch.zeros(given.shape[1], 200)) == (0, asked)
    assert needle.recalled(ids[:, :20], copies) == (0, 0)
    for context, wanted in needle.needles(ids):
        assert context.shape == ids.shape and torch.equal(context[0, 1 - len(wanted) :], wanted[:-1])


def test_what_a_cache_recalls_is_told(found: Kv) -> None:
    assert found.needles == len(needle.DEPTHS) * (needle.LENGTH - needle.CUE)
    same = next(row for row in found.rows if row.kv == "fp32")
    assert same.recalled == found.recalled and all(0 <= (row.recalled or 0) <= 1 for row in found.rows)
    found = replace(found, recalled=0.9, rows=(replace(same, recalled=0.9), replace(same, kv="q4_0", recalled=0.4)))
    assert str(words.needle(found)).endswith("finds 90 %; q4_0 40 %.")
    assert "too few to see" in str(words.needle(replace(found, recalled=0.1)))
    assert words.needle(replace(found, recalled=None)) is None


def test_words_tables_and_figures(found: Kv) -> None:
    said = words.headline(found)
    kept = words.chosen(found)
    assert kept is not None and kept.top1 is not None and kept.top1.value >= words.KEEPS
    assert said.startswith(f"Cache in {title(kept.kv)}: ") and "of next tokens stay" in said
    none = replace(found, rows=tuple(replace(row, nonfinite=1) for row in found.rows))
    assert words.headline(none).startswith("None of these caches leaves 99 %")
    frame = tables.rows(found)
    assert len(frame) == len(found.rows) and frame["share"].between(0, 1).all()
    assert len(figures.frontier(frame).data) == len(frame) - 1  # fp32 changes nothing
    assert len(figures.depth(tables.by_depth(found)).data) == len(frame) - 1
    assert any("recent tokens as computed" in note for note in words.notes(found))


def test_link_and_result_come_back(found: Kv) -> None:
    asked = link.Asked(kv=("q8_0/q4_0", "int8"), tokens=512, first=4, window=32, precision="bf16")
    assert link.from_query(link.to_query(asked)) == (asked, [])
    _, problems = link.from_query({"kv": ["int8", "nonsense"]})
    assert problems == ["Ignored unknown kv='nonsense'."]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Kv) == found


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    model, rest = str(checkpoints.folder("llama")), ["--max-tokens", "32", "--context", "16", "--quiet", "--no-store"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["kv", model, "--kv", "bf16", *rest])
    assert "KL by depth" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["kv", model, "--kv", "int5", *rest])
    assert "Unknown KV precision 'int5'" in capsys.readouterr().err


@pytest.mark.usefixtures("page_server")
def test_page(jobs: FakeJobs, found: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("pages/kv.py", {"first": "4"})
    assert "Not measured yet" in texts(at)
    at.button(key="kv_measure").click().run()
    assert jobs.submitted[-1] == KvRequest(MODEL, first=4)
    monkeypatch.setattr(shipped, "find", lambda request, key, **_: found)
    at = opened("pages/kv.py")
    assert "of next tokens stay" in texts(at) and "qfund kv pydoc-llama" in texts(at)
    assert len(at.dataframe) == 1 and len(at.dataframe[0].value) == len(found.rows)


def test_what_ships_is_found() -> None:
    request = checked(KvRequest(MODEL))
    found = shipped.find(request, key_of(request))
    assert found is not None and [row.kv for row in found.rows] == list(DEFAULT_KV)
