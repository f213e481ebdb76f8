"""The integer quantiser by hand and by property, and the walk that applies it to whole models."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from qfund import checkpoint, footprint
from qfund.errors import NothingConverted
from qfund.loading import load
from qfund.precisions import PRECISIONS, Precision
from qfund.quantizers import walk
from qfund.quantizers.integer import INT8_PER_CHANNEL, SymmetricPerChannel
from tests import checkpoints, independent
from tests.test_architectures import CASES, NOTHING_TO_CONVERT, batches_of

INT8 = PRECISIONS["int8"]

# ---- the quantiser


def test_int8_by_hand() -> None:
    # A row of largest magnitude 127.5 has scale 1: halves round to even, +127.5 is clamped to 127, −127.5 is −128.
    weight = torch.tensor(
        [[127.5, 0.5, 1.5, -2.5, 3.49, -127.5], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [-51.0, 25.5, 0.2, -0.3, 10, 1]]
    )
    stored = INT8_PER_CHANNEL.quantize(weight)
    assert stored["scale"].tolist() == [[1.0], [torch.finfo(torch.float32).eps], [pytest.approx(0.4)]]
    assert stored["data"].tolist() == [
        [127, 0, 2, -2, 3, -128],
        [0, 0, 0, 0, 0, 0],
        # 51 / 127.5 = 0.4: −51 is −127.5 scales, a tie, whose rounding to even gives −128.
        [-128, 64, 0, -1, 25, 2],
    ]
    restored = INT8_PER_CHANNEL.dequantize(stored, torch.float32)
    assert restored[0].tolist() == [127.0, 0.0, 2.0, -2.0, 3.0, -128.0]
    assert restored[1].tolist() == [0.0] * 6
    assert restored[2].tolist() == pytest.approx([-51.2, 25.6, 0.0, -0.4, 10.0, 0.8])


def test_fewer_bits_by_hand() -> None:
    four = SymmetricPerChannel(bits=4)  # −8 … 7, scale 7.5 / 7.5
    stored = four.quantize(torch.tensor([[7.5, -7.5, 6.6, 0.4]]))
    assert (stored["data"].tolist(), stored["scale"].tolist()) == ([[7, -8, 7, 0]], [[1.0]])
    assert four.layout(3, 5)["data"].bytes == 15  # still a byte each


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_row_that_is_not_finite_does_not_come_back_finite(value: float) -> None:
    weight = torch.tensor([[1.0, value, 2.0], [1.0, 2.0, 3.0]])
    restored = INT8_PER_CHANNEL.dequantize(INT8_PER_CHANNEL.quantize(weight), torch.float32)
    assert not restored[0].isfinite().any() and restored[1].isfinite().all()


MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 24)),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


def _scaled_error(weight: Tensor, stored: dict[str, Tensor]) -> Tensor:
    """|w − restored| in scales, computed in float64."""
    restored = stored["data"].double() * stored["scale"].double()
    return (weight.double() - restored).abs() / stored["scale"].double()


@given(MATRICES)
def test_nothing_is_off_by_more_than_half_a_scale(values: Any) -> None:
    """Also not the largest positive weight, which is clamped: 127.5 scales are stored as 127."""
    weight = torch.from_numpy(values)
    stored = INT8_PER_CHANNEL.quantize(weight)
    error = _scaled_error(weight, stored)
    assert error.max() <= 0.5 + 1e-4, f"off by {error.max():.6f} scales"


@given(MATRICES, st.integers(-20, 20))
def test_a_power_of_two_changes_the_scale_only(values: Any, exponent: int) -> None:
    weight = torch.from_numpy(values)
    assume(weight.abs().amax(1).min() > 1)  # above the smallest scale before and after
    stored, other = (INT8_PER_CHANNEL.quantize(part) for part in (weight, weight * 2.0**exponent))
    assert torch.equal(stored["data"], other["data"])
    assert torch.equal(stored["scale"] * 2.0**exponent, other["scale"])


@given(MATRICES)
def test_rows_do_not_know_of_each_other(values: Any) -> None:
    weight = torch.from_numpy(values)
    whole = INT8_PER_CHANNEL.quantize(weight)
    rows = [INT8_PER_CHANNEL.quantize(weight[i : i + 1]) for i in range(len(weight))]
    for key, tensor in whole.items():
        assert torch.equal(tensor, torch.cat([row[key] for row in rows]))


@given(MATRICES)
def test_the_integers_of_a_restored_weight_are_the_same(values: Any) -> None:
    """Quantising what was quantised before changes no integer but the extreme ones, by one: there a tie is rounded.

    The scale does change (the largest magnitude is now 127 or 128 scales and not 127.5), so the weights drift by up to
    one part in 255: the operation is not idempotent, and nothing in qfund applies it twice.
    """
    weight = torch.from_numpy(values)
    assume(weight.abs().amax(1).min() > 1e-3)
    first = INT8_PER_CHANNEL.quantize(weight)
    again = INT8_PER_CHANNEL.quantize(INT8_PER_CHANNEL.dequantize(first, torch.float32))
    moved = (first["data"].int() - again["data"].int()).abs()
    assert moved.max() <= 1
    assert (first["data"].int().abs()[moved > 0] >= 127).all()
    ratio = again["scale"] / first["scale"]
    assert ratio.min() > 1 - 1 / 254 and ratio.max() < 1 + 1 / 254


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=20)
def test_layout_foretells_what_is_stored(out_features: int, in_features: int) -> None:
    stored = INT8_PER_CHANNEL.quantize(torch.randn(out_features, in_features))
    layout = INT8_PER_CHANNEL.layout(out_features, in_features)
    assert stored.keys() == layout.keys()
    for key, tensor in stored.items():
        assert (tensor.dtype, tuple(tensor.shape)) == (layout[key].dtype, layout[key].shape)
        assert tensor.numel() * tensor.element_size() == layout[key].bytes


def _sqnr(signal: Tensor, noisy: Tensor) -> float:
    noise = (signal.double() - noisy.double()).square().sum()
    return float("inf") if noise == 0 else float(10 * torch.log10(signal.double().square().sum() / noise))


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("shape", [(256, 256), (64, 1024)])
def test_signal_to_noise_of_normal_weights_reaches_the_rows_floor(name: str, shape: tuple[int, int]) -> None:
    row = PRECISIONS[name]
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02
    dtype = getattr(torch, row.dtype)
    quantizer = walk.quantizer_of(row)
    found = weight.to(dtype)
    if quantizer is not None:
        found = quantizer.dequantize(quantizer.quantize(found), dtype)
    measured = _sqnr(weight, found)
    assert measured >= row.sqnr_floor, f"{row.label}: {measured:.2f} dB, below {row.sqnr_floor} dB"
    # A floor far below what is reached would guard nothing.
    assert measured - row.sqnr_floor < 10 or measured == float("inf"), f"{row.label}: {measured:.2f} dB"


# ---- the walk


def _quantised(name: str) -> tuple[Any, walk.Plan]:
    loaded = load(checkpoint.read(checkpoints.folder(name)), INT8)
    assert loaded.plan is not None
    return loaded.model, loaded.plan


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOTHING_TO_CONVERT])
def test_forward_equals_bit_for_bit_a_float_model_with_rounded_weights(name: str) -> None:
    model, _ = _quantised(name)
    plain = independent.rounded(independent.load(checkpoints.folder(name), torch.float32), CASES[name].left)
    inputs = batches_of(name)
    ours, theirs = independent.run(model, inputs), independent.run(plain, inputs)
    assert np.array_equal(ours.values, theirs.values)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "t5", "vit-classifier"])
def test_a_quantised_model_can_be_copied(name: str) -> None:
    model, _ = _quantised(name)
    twin = copy.deepcopy(model)
    inputs = batches_of(name)
    assert np.array_equal(independent.run(model, inputs).values, independent.run(twin, inputs).values)
    assert footprint.stored(twin).tensors == footprint.stored(model).tensors
    own = {tensor.data_ptr() for tensor in model.buffers() if tensor.numel()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in twin.buffers() if tensor.numel())


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_converted_modules_hold_integers_and_no_float_weight(name: str) -> None:
    model, plan = _quantised(name)
    assert plan.converted
    for module_name in plan.converted:
        module = model.get_submodule(module_name)
        assert "weight" not in dict(module.named_parameters())
        assert {key: tensor.dtype for key, tensor in module.named_buffers()} == {
            "weight_data": torch.int8,
            "weight_scale": torch.float32,
        }
        # Still a module of its kind, and its weight still reads as one.
        assert isinstance(module, nn.Linear | Conv1D) and module.weight.dtype == torch.float32
    plain = independent.load(checkpoints.folder(name), torch.float32)
    for module_name in plan.converted:
        assert model.get_submodule(module_name).weight.shape == plain.get_submodule(module_name).weight.shape


def test_conv1d_has_one_scale_an_output() -> None:
    model, plan = _quantised("gpt2")
    assert "transformer.h.0.attn.c_attn" in plan.converted
    attention = model.get_submodule("transformer.h.0.attn.c_attn")  # [in 32, out 96] as stored by GPT-2
    assert attention.weight_data.shape == (96, 32) and attention.weight_scale.shape == (96, 1)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert-masked", "blip"])
def test_tied_weights_are_still_one_tensor(name: str) -> None:
    model, _ = _quantised(name)
    parts = [part for part in model.modules() if hasattr(part, "get_output_embeddings")]
    pairs = [
        (part.get_input_embeddings(), head) for part in parts if (head := part.get_output_embeddings()) is not None
    ]
    assert pairs and all(head.weight is embeddings.weight for embeddings, head in pairs)


class Mixed(nn.Module):
    """A little of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(4, 6)
        self.tied = nn.Linear(3, 5, bias=False)
        self.look_up = nn.Embedding(5, 3)
        self.tied.weight = self.look_up.weight
        self.convolution = nn.Conv2d(1, 2, 3)
        self.attention = nn.MultiheadAttention(8, 2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)
        self.experts = nn.Parameter(torch.randn(2, 4, 4))


def test_plan_says_of_every_weight_what_becomes_of_it() -> None:
    found = walk.plan(Mixed())
    assert found.converted == ("plain", "attention.out_proj")
    why = {row.name: (row.kind, row.why) for row in found.left}
    assert why == {
        "(the model itself)": ("Mixed", "no Linear layer: it uses its own experts [2, 4, 4] directly"),
        "tied": ("Linear", "shares its weight with another module, which would become a second copy"),
        "look_up": ("Embedding", "an embedding: a look-up, not a multiplication"),
        "convolution": ("Conv2d", "a convolution"),
        "attention": ("MultiheadAttention", "no Linear layer: it uses its own in_proj_weight [24, 8] directly"),
        "normed.parametrizations.weight": (
            "ParametrizationList",
            "no Linear layer: it uses its own original0 [4, 1], original1 [4, 4] directly",
        ),
    }


def test_a_weight_that_its_parent_reads_is_dequantised_there_too() -> None:
    """torch's attention multiplies with ``out_proj.weight`` itself, without calling ``out_proj``."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2)}).eval().requires_grad_(False)
    states = torch.randn(5, 1, 8)
    before, _ = model["attention"](states, states, states)
    plan = walk.quantize_model(model, INT8)
    assert plan.converted == ("attention.out_proj",)
    after, _ = model["attention"](states, states, states)
    assert 0 < (after - before).abs().max() < 0.02


def test_a_model_with_nothing_to_convert_is_refused_and_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(NothingConverted, match="Sequential"):
        walk.quantize_model(model, INT8)
    assert isinstance(model[0].weight, nn.Parameter)


def test_a_heads_weights_stay_where_only_a_part_of_the_model_knows_it() -> None:
    """BLIP's decoder, untied: the whole model names no output head, its text decoder does."""
    tiny = checkpoints.CHECKPOINTS["blip"]
    config = tiny.config()
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    model = checkpoints.build(checkpoints.Tiny(tiny.architecture, lambda: config))
    head = "text_decoder.cls.predictions.decoder"
    assert model.get_submodule(head).weight is not model.get_input_embeddings().weight
    left = {row.name: row.why for row in walk.plan(model).left}
    assert left[head].startswith("the output head")


def test_a_cast_has_no_quantiser_and_a_row_names_its_own() -> None:
    assert {name: walk.quantizer_of(row) for name, row in PRECISIONS.items() if row.family == "float cast"} == {
        "fp32": None,
        "bf16": None,
        "fp16": None,
    }
    assert walk.quantizer_of(INT8) is INT8_PER_CHANNEL


def test_a_row_with_another_quantiser_converts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantiser is named in the table and nowhere else."""
    monkeypatch.setattr("qfund.quantizers.integer.INT4", SymmetricPerChannel(bits=4), raising=False)
    fields = {name: getattr(INT8, name) for name in Precision.__slots__}
    row = Precision(**fields | {"name": "int4", "quantizer": "qfund.quantizers.integer:INT4", "sqnr_floor": 15.0})
    loaded = load(checkpoint.read(checkpoints.folder("llama")), row)
    data = loaded.model.get_submodule("model.layers.0.mlp.up_proj").weight_data
    assert (int(data.min()), int(data.max())) == (-8, 7)
