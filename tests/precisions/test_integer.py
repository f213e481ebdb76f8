"""Packing, integer quantisers and products with quantised activations: by hand, by property, and beside torchao.

Torchao 0.18 is the reference: integers, scales, zero-points, restored weights and outputs of layers must be its own,
bit for bit, wherever it takes the shape.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn
from torchao.quantization import (
    Int8DynamicActivationInt8WeightConfig,
    Int8DynamicActivationIntxWeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    quantize_,
)
from torchao.quantization.granularity import PerGroup, PerRow

from qfund.precisions.quantizers import activations, integer
from qfund.precisions.quantizers.activations import FP8_DYNAMIC, INT4_DYNAMIC, INT8_DYNAMIC
from qfund.precisions.quantizers.float8 import FP8_E4M3
from qfund.precisions.quantizers.integer import (
    INT2_G32,
    INT3_G32,
    INT4_G32,
    INT4_G32_ASYM,
    INT6_G32,
    INT8_G32,
    INT8_PER_CHANNEL,
    Integer,
)
from qfund.precisions.quantizers.packing import pack, packed_layout, unpack
from qfund.precisions.quantizers.quantizer import Product, Quantizer

FORMATS: dict[str, Integer] = {name: found for name, found in vars(integer).items() if isinstance(found, Integer)}
FLOATS = [torch.float32, torch.bfloat16]
each_format = pytest.mark.parametrize("name", FORMATS)
each_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def codes_of(quantizer: Integer, stored: dict[str, Tensor], columns: int) -> Tensor:
    """The signed integers, unpacked."""
    if quantizer.bits == 8:
        return stored["data"]
    return (unpack(stored["data"], quantizer.bits, columns).int() + quantizer.q_min).to(torch.int8)


# ---- packing


def test_the_first_code_takes_the_lowest_bits() -> None:
    def packed(codes: list[int], bits: int) -> list[int]:
        return pack(torch.tensor([codes], dtype=torch.uint8), bits)[0].tolist()

    assert packed([1, 0, 3, 2], 2) == [177]  # 10 11 00 01, read from the right
    assert packed([0xA, 0x3, 0xF], 4) == [0x3A, 0x0F]
    assert packed([1, 1, 0, 0, 0, 0, 0, 0, 1], 1) == [3, 1]
    # 3 bits: the two lower ones four a byte, then the highest one eight a byte.
    assert packed([5, 0, 7, 2], 3) == [0b10_11_00_01, 0b0000_0101]
    assert packed([0b10110, 0b00001], 5) == [0b0001_0110, 0b01]
    assert packed([0b110110, 0b000001, 0b111111], 6) == [0b0001_0110, 0b0000_1111, 0b11_00_11]
    assert packed([200, 7], 8) == [200, 7]


@st.composite
def packings(draw: st.DrawFn) -> tuple[int, Tensor]:
    bits = draw(st.integers(1, 8))
    shape = draw(st.tuples(st.integers(0, 5), st.integers(0, 40)))
    codes = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1)))
    return bits, torch.from_numpy(codes)


@given(packings())
def test_what_is_packed_comes_back(case: tuple[int, Tensor]) -> None:
    bits, codes = case
    rows, columns = codes.shape
    packed = pack(codes, bits)
    assert (packed.dtype, tuple(packed.shape)) == tuple(packed_layout(rows, columns, bits))
    assert torch.equal(unpack(packed, bits, columns), codes)
    # However the codes and the bytes lie in memory.
    assert torch.equal(pack(codes.T.contiguous().T, bits), packed)
    assert torch.equal(unpack(packed.T.contiguous().T, bits, columns), codes)


@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 300))
def test_packing_pads_each_plane_of_a_row_to_whole_bytes_only(bits: int, rows: int, columns: int) -> None:
    planes = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}.get(bits, (bits,))
    assert packed_layout(rows, columns, bits).bytes == rows * sum(math.ceil(columns * width / 8) for width in planes)


@pytest.mark.parametrize("bits", [0, 9])
def test_a_width_that_no_byte_holds_is_refused(bits: int) -> None:
    with pytest.raises(AssertionError, match="1 to 8 bits"):
        packed_layout(1, 1, bits)


# ---- integers by hand


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
    restored = INT8_PER_CHANNEL.dequantize(stored, (3, 6), torch.float32)
    assert restored[0].tolist() == [127.0, 0.0, 2.0, -2.0, 3.0, -128.0]
    assert restored[1].tolist() == [0.0] * 6
    assert restored[2].tolist() == pytest.approx([-51.2, 25.6, 0.0, -0.4, 10.0, 0.8])


def test_int4_by_hand() -> None:
    weight = torch.tensor([[7.5, -7.5, 6.6, 0.4]])  # scale 7.5 / 7.5; one group, shorter than 32
    stored = INT4_G32.quantize(weight)
    # 15, 0, 15, 8 from −8 upwards, two a byte.
    assert (stored["data"].tolist(), stored["scale"].tolist()) == ([[0x0F, 0x8F]], [[1.0]])
    assert INT4_G32.dequantize(stored, (1, 4), torch.float32).tolist() == [[7.0, -8.0, 7.0, 0.0]]


def test_int4_asymmetric_by_hand() -> None:
    weight = torch.tensor([[-2.0, 0.0, 5.5, 1.26], [1.0, 3.0, 2.0, 0.4]])
    stored = INT4_G32_ASYM.quantize(weight)
    # First row: 7.5 / 15 = 0.5, z = −8 + 4. Second row: zero counts as the smallest, 3 / 15 = 0.2, z = −8.
    assert stored["scale"].tolist() == [[0.5], [pytest.approx(0.2)]]
    assert (stored["zero_point"].tolist(), stored["zero_point"].dtype) == ([[-4], [-8]], torch.int8)
    assert codes_of(INT4_G32_ASYM, stored, 4).tolist() == [[-8, -4, 7, -1], [-3, 7, 2, -6]]
    restored = INT4_G32_ASYM.dequantize(stored, (2, 4), torch.float32)
    assert restored[0].tolist() == [-2.0, 0.0, 5.5, 1.5] and restored[1].tolist() == pytest.approx([1.0, 3.0, 2.0, 0.4])


def test_two_and_three_bits_by_hand() -> None:
    # −2 … 1, scale 1.5 / 1.5; from −2 upwards 3, 0, 3, 2.
    two = INT2_G32.quantize(torch.tensor([[1.5, -1.5, 0.6, 0.5]]))
    assert (two["scale"].item(), two["data"].tolist()) == (1.0, [[0b10_11_00_11]])
    # −4 … 3, scale 3.5 / 3.5; from −4 upwards 7, 0, 5, 4: the lower two bits, then the highest.
    three = INT3_G32.quantize(torch.tensor([[3.5, -3.5, 0.6, 0.5]]))
    assert (three["scale"].item(), three["data"].tolist()) == (1.0, [[0b00_01_00_11, 0b1101]])


def test_groups_have_scales_of_their_own_and_the_last_may_be_shorter() -> None:
    two = Integer(bits=4, group=2)
    weight = torch.tensor([[7.5, 1.0, 75.0, 10.0, 0.75]])
    stored = two.quantize(weight)
    assert stored["scale"].flatten().tolist() == pytest.approx([1.0, 10.0, 0.1])
    assert codes_of(two, stored, 5).tolist() == [[7, 1, 7, 1, 7]]
    assert stored["data"].shape == (1, 3)  # five codes, half a byte of padding
    assert two.dequantize(stored, (1, 5), torch.float32)[0].tolist() == pytest.approx([7.0, 1.0, 70.0, 10.0, 0.7])


def test_bytes_of_a_large_matrix() -> None:
    """Bits for each weight: the codes, a scale of 32 or 16 bits a group (always 32 for int8), zero-points of 8."""

    def bits(name: str, dtype: torch.dtype) -> float:
        return sum(part.bytes for part in FORMATS[name].layout((4096, 4096), dtype).values()) * 8 / 4096**2

    assert {name: (bits(name, torch.float32), bits(name, torch.bfloat16)) for name in FORMATS} == {
        "INT8_PER_CHANNEL": (8 + 32 / 4096, 8 + 32 / 4096),
        "INT8_G32": (9.0, 9.0),
        "INT6_G32": (7.0, 6.5),
        "INT5_G32": (6.0, 5.5),
        "INT4_G32": (5.0, 4.5),
        "INT4_G32_ASYM": (5.25, 4.75),
        "INT4_G64": (4.5, 4.25),
        "INT4_G128": (4.25, 4.125),
        "INT3_G32": (4.0, 3.5),
        "INT2_G32": (3.0, 2.5),
    }
    assert {name: found.element for name, found in FORMATS.items()} == {
        name: name.partition("_")[0].lower() for name in FORMATS
    }


# ---- integers beside torchao


def weights(kind: str, rows: int, columns: int) -> Tensor:
    """Normal ones, or what trained layers have besides: rows of all sizes, heavy tails, outlier columns, zeros."""
    generator = torch.Generator().manual_seed(rows + columns)
    normal = torch.randn(rows, columns, generator=generator)
    if kind == "normal":
        return normal * 0.02
    trained = normal / torch.rand(rows, columns, generator=generator).clamp(min=0.01) ** 0.5
    trained *= 10 ** torch.linspace(-3, 0, rows)[:, None]
    trained[:, ::17] *= 12
    trained[0], trained[1, : columns // 2] = 0, 0
    trained[2], trained[3], trained[4] = trained[2].abs() + 1, -trained[3].abs() - 1, trained[4] * 1e-30
    return trained


def torchao_weight(quantizer: Integer, weight: Tensor) -> Any:
    config: Any
    if quantizer.fp32_scale:
        config = Int8WeightOnlyConfig(granularity=PerGroup(quantizer.group) if quantizer.group else PerRow())
    else:
        config = IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, quantizer.element),
            granularity=PerGroup(quantizer.group or weight.shape[1]),
            mapping_type=MappingType.SYMMETRIC if quantizer.symmetric else MappingType.ASYMMETRIC,
        )
    return torchao_linear(weight, None, config).weight


def torchao_linear(weight: Tensor, bias: Tensor | None, config: Any) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype).requires_grad_(False)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    quantize_(layer, config)
    return layer


@pytest.mark.parametrize("kind", ["normal", "trained"])
@pytest.mark.parametrize("shape", [(256, 256), (64, 1024), (7, 128)], ids=str)
@each_float
@each_format
def test_integers_scales_and_restored_weights_are_torchaos(
    name: str, dtype: torch.dtype, shape: tuple[int, int], kind: str
) -> None:
    quantizer, weight = FORMATS[name], weights(kind, *shape).to(dtype)
    stored, theirs = quantizer.quantize(weight), torchao_weight(FORMATS[name], weight)
    assert torch.equal(codes_of(quantizer, stored, shape[1]), theirs.qdata)
    assert stored["scale"].dtype == theirs.scale.dtype and torch.equal(stored["scale"], theirs.scale)
    if quantizer.symmetric:
        assert "zero_point" not in stored and not theirs.zero_point.any()
    else:
        assert stored["zero_point"].dtype == theirs.zero_point.dtype
        assert torch.equal(stored["zero_point"], theirs.zero_point)
    restored = quantizer.dequantize(stored, shape, dtype)
    assert restored.dtype == dtype and torch.equal(restored, theirs.dequantize())


# ---- integers by property


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 70)))
    elements = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
    return torch.from_numpy(draw(arrays.arrays(np.float32, shape, elements=elements)))


formats = st.sampled_from(list(FORMATS.values()))


def spread(quantizer: Integer, scale: Tensor, columns: int) -> Tensor:
    """The scale of each weight, [out, in]."""
    return scale.repeat_interleave(quantizer.group or columns, 1)[:, :columns]


@given(formats, matrices())
def test_nothing_is_off_by_more_than_half_a_scale(quantizer: Integer, weight: Tensor) -> None:
    """Also not the largest positive weight, which is clamped: 127.5 scales are stored as 127."""
    stored = quantizer.quantize(weight)
    restored = quantizer.dequantize(stored, (weight.shape[0], weight.shape[1]), torch.float64)
    error = (weight.double() - restored).abs() / spread(quantizer, stored["scale"].double(), weight.shape[1])
    assert error.max() <= 0.5 + 1e-4, f"off by {error.max():.6f} scales"
    assert quantizer.saturated(weight, stored) == 0


@given(formats, matrices(), st.sampled_from(FLOATS))
def test_layout_foretells_what_is_stored(quantizer: Integer, weight: Tensor, dtype: torch.dtype) -> None:
    shape = (weight.shape[0], weight.shape[1])
    stored, layout = quantizer.quantize(weight.to(dtype)), quantizer.layout(shape, dtype)
    assert stored.keys() == layout.keys()
    for key, tensor in stored.items():
        assert (tensor.dtype, tuple(tensor.shape)) == tuple(layout[key])
        assert tensor.numel() * tensor.element_size() == layout[key].bytes
        assert tensor.is_contiguous()
    restored = quantizer.dequantize(stored, shape, dtype)
    assert (restored.dtype, tuple(restored.shape)) == (dtype, shape) and restored.isfinite().all()


@given(formats, matrices(), st.sampled_from(FLOATS))
def test_zeros_stay_zero(quantizer: Integer, weight: Tensor, dtype: torch.dtype) -> None:
    weight = weight.to(dtype)
    weight[:, : quantizer.group] = 0
    weight[:, ::3] = 0
    restored = quantizer.dequantize(quantizer.quantize(weight), (weight.shape[0], weight.shape[1]), dtype)
    assert not restored[weight == 0].any()


@given(formats, matrices(), st.integers(-12, 20))
def test_a_power_of_two_changes_the_scale_only(quantizer: Integer, weight: Tensor, exponent: int) -> None:
    weight = weight.sign() * (weight.abs() + 1)  # above the smallest scale before and after
    stored, other = (quantizer.quantize(part) for part in (weight, weight * 2.0**exponent))
    large = stored["scale"] > 1e-6  # a group of zeros has the smallest scale whatever it is multiplied with
    for key in stored.keys() - {"scale"}:
        assert torch.equal(stored[key], other[key])
    assert torch.equal((stored["scale"] * 2.0**exponent)[large], other["scale"][large])


@given(formats, matrices())
def test_groups_do_not_know_of_each_other(quantizer: Integer, weight: Tensor) -> None:
    """Every row by itself, and every group of it by itself, gives the same as all at once."""
    rows, columns = weight.shape
    whole = quantizer.dequantize(quantizer.quantize(weight), (rows, columns), torch.float32)
    for row in range(rows):
        for part in range(0, columns, quantizer.group or columns):
            piece = weight[row : row + 1, part : part + (quantizer.group or columns)]
            alone = quantizer.dequantize(quantizer.quantize(piece), (1, piece.shape[1]), torch.float32)
            assert torch.equal(whole[row, part : part + piece.shape[1]], alone[0])


@given(formats, matrices())
def test_a_transposed_weight_is_read_as_it_stands(quantizer: Integer, weight: Tensor) -> None:
    stored, strided = quantizer.quantize(weight), quantizer.quantize(weight.T.contiguous().T)
    assert all(torch.equal(stored[key], strided[key]) for key in stored)


@given(matrices())
def test_the_integers_of_a_restored_weight_are_the_same(weight: Tensor) -> None:
    """Quantising what was quantised before changes no integer but the extreme ones, by one: there a tie is rounded.

    The scale does change (the largest magnitude is now 127 or 128 scales and not 127.5), so the weights drift by up to
    one part in 255: the operation is not idempotent, and nothing in qfund applies it twice.
    """
    assume(weight.abs().amax(1).min() > 1e-3)
    shape = (weight.shape[0], weight.shape[1])
    first = INT8_PER_CHANNEL.quantize(weight)
    again = INT8_PER_CHANNEL.quantize(INT8_PER_CHANNEL.dequantize(first, shape, torch.float32))
    moved = (first["data"].int() - again["data"].int()).abs()
    assert moved.max() <= 1
    assert (first["data"].int().abs()[moved > 0] >= 127).all()
    ratio = again["scale"] / first["scale"]
    assert ratio.min() > 1 - 1 / 254 and ratio.max() < 1 + 1 / 254


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@each_format
def test_a_group_that_is_not_finite_does_not_come_back_finite(name: str, value: float) -> None:
    weight = torch.tensor([[1.0, value, 2.0], [1.0, 2.0, 3.0]])
    restored = FORMATS[name].dequantize(FORMATS[name].quantize(weight), (2, 3), torch.float32)
    assert not restored[0].isfinite().any() and restored[1].isfinite().all()


@each_format
def test_nothing_saturates_where_the_scale_was_rounded_to_bf16(name: str) -> None:
    """Whatever the largest weight of a group: here every bf16 number from 1 to 2, with both signs."""
    ends = torch.arange(128, 256).repeat_interleave(32).view(128, 32) / 128
    for weight in (ends.bfloat16(), -ends.bfloat16(), weights("trained", 256, 256).bfloat16()):
        assert FORMATS[name].saturated(weight, FORMATS[name].quantize(weight)) == 0


@each_float
def test_weights_beyond_the_last_code_are_counted(dtype: torch.dtype) -> None:
    """With a scale of 1 where the codes are −8 … 7: beyond 7.625 and −8.625, each by itself and in short groups too."""
    inside, beyond = [7.5, -8.5, 0.0, 7.6], [7.75, -8.75, 100.0, -100.0]
    weight = torch.tensor([inside * 8 + beyond, inside * 9], dtype=dtype)
    stored = INT4_G32.quantize(weight) | {"scale": torch.ones(2, 2, dtype=dtype)}
    assert INT4_G32.saturated(weight, stored) == 4
    # A zero-point of 3 moves the range to −11 … 4.
    stored = INT4_G32_ASYM.quantize(weight) | {
        "scale": torch.ones(2, 2, dtype=dtype),
        "zero_point": torch.full((2, 2), 3, dtype=torch.int8),
    }
    assert INT4_G32_ASYM.saturated(weight, stored) == 2 * 8 + 3 + 2 * 9


# ---- quantised activations


def layer(dtype: torch.dtype, columns: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(columns)
    weight = torch.randn(outputs, columns, generator=generator) * 0.02
    return weight.to(dtype), torch.randn(outputs, generator=generator).to(dtype)


def states(dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Activations with outlier channels, and a token of zeros if there are three or more."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) * 3
    x[..., ::29] *= 20
    x.view(-1, shape[-1])[2:3] = 0
    return x.to(dtype)


PRODUCTS: dict[str, tuple[Product, Quantizer]] = {
    "INT8_DYNAMIC": (INT8_DYNAMIC, INT8_PER_CHANNEL),
    "INT4_DYNAMIC": (INT4_DYNAMIC, INT4_G32),
    "FP8_DYNAMIC": (FP8_DYNAMIC, FP8_E4M3),
}
each_product = pytest.mark.parametrize("name", PRODUCTS)


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("columns, outputs", [(64, 32), (256, 100), (4096, 16)])
@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 5), (40,)], ids=str)
@each_float
@pytest.mark.parametrize("name", ["INT8_DYNAMIC", "INT4_DYNAMIC"])
def test_outputs_are_torchaos(
    name: str, dtype: torch.dtype, leading: tuple[int, ...], columns: int, outputs: int, with_bias: bool
) -> None:
    config: Any = Int8DynamicActivationInt8WeightConfig()
    if name == "INT4_DYNAMIC":
        config = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=getattr(torch, INT4_G32.element), weight_granularity=PerGroup(32)
        )
    weight, bias = layer(dtype, columns, outputs)
    given_bias = bias if with_bias else None
    x = states(dtype, (*leading, columns))
    product, quantizer = PRODUCTS[name]
    ours = product(x, quantizer, quantizer.quantize(weight), (outputs, columns), given_bias)
    theirs = torchao_linear(weight, given_bias, config)(x)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and torch.equal(ours, theirs)


def test_int8_product_by_hand() -> None:
    # The token's scale is 127.5 / 127.5 and the weights' 255 / 127.5: (−128 · −128 + 2 · 3) · 1 · 2 + 0.5.
    stored = INT8_PER_CHANNEL.quantize(torch.tensor([[-255.0, 6.0]]))
    x = torch.tensor([[-127.5, 2.2]])
    y = INT8_DYNAMIC(x, INT8_PER_CHANNEL, stored, (1, 2), torch.tensor([0.5]))
    assert y.tolist() == [[(128 * 128 + 6) * 2 + 0.5]]


def test_fp8_product_by_hand() -> None:
    # Both scales are 1. In e4m3, 17 is a tie between 16 and 18 and 1.0625 one between 1 and 1.125: to the even ones.
    stored = FP8_E4M3.quantize(torch.tensor([[448.0, 1.0, 2.0]]))
    y = FP8_DYNAMIC(torch.tensor([448.0, 17.0, 1.0625]), FP8_E4M3, stored, (1, 3), None)
    assert y.tolist() == [448 * 448 + 16 + 2]


@each_float
def test_fp8_products_are_those_of_the_rounded_tokens(dtype: torch.dtype) -> None:
    weight, bias = layer(dtype, 512, 24)
    x = states(dtype, (6, 512))
    stored, tokens = FP8_E4M3.quantize(weight), FP8_E4M3.quantize(x)
    found = FP8_DYNAMIC(x, FP8_E4M3, stored, (24, 512), bias)
    left, right = (part["data"].double() * part["scale"].double() for part in (tokens, stored))
    exact = left @ right.T + bias.double()
    # Sums of 512 float32 products, then the rounding of the output.
    bound = (left.abs() @ right.abs().T + bias.double().abs()) * 512 * 2**-24 + exact.abs() * torch.finfo(dtype).eps
    assert found.dtype == dtype and ((found.double() - exact).abs() <= bound).all()
    assert (tokens["scale"][[0, 1, 3, 4, 5], 0] / (x.abs().amax(1).float() / 448)[[0, 1, 3, 4, 5]]).allclose(
        torch.ones(()), rtol=2**-8
    )


@each_float
@each_product
def test_products_come_close_to_the_float_layer(name: str, dtype: torch.dtype) -> None:
    """A wrong scale or a transposed weight would show; the floors are those of 8 and 4 bits, less a little."""
    product, quantizer = PRODUCTS[name]
    weight, bias = layer(torch.float32, 256, 256)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    exact = x.double() @ weight.double().T + bias.double()
    stored = quantizer.quantize(weight.to(dtype))
    found = product(x.to(dtype), quantizer, stored, (256, 256), bias.to(dtype))
    sqnr = 10 * torch.log10(exact.square().sum() / (found.double() - exact).square().sum())
    assert sqnr > {"INT8_DYNAMIC": 40, "INT4_DYNAMIC": 26, "FP8_DYNAMIC": 36}[name], f"{sqnr:.1f} dB"


@pytest.mark.parametrize("columns", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("leading", [(), (0,), (2, 0), (1, 1), (2, 1, 3)], ids=str)
@each_float
@each_product
def test_any_shape_is_taken(name: str, dtype: torch.dtype, leading: tuple[int, ...], columns: int) -> None:
    product, quantizer = PRODUCTS[name]
    weight, bias = layer(dtype, columns, 5)
    x = states(dtype, (*leading, columns))
    y = product(x, quantizer, quantizer.quantize(weight), (5, columns), bias)
    assert (y.dtype, y.shape) == (dtype, (*leading, 5)) and y.isfinite().all()


@each_float
@each_product
def test_a_token_of_zeros_gives_the_bias(name: str, dtype: torch.dtype) -> None:
    product, quantizer = PRODUCTS[name]
    weight, bias = layer(dtype, 64, 8)
    stored = quantizer.quantize(weight)
    x = states(dtype, (4, 64))  # the third is zeros
    assert torch.equal(product(x, quantizer, stored, (8, 64), bias)[2], bias)
    assert not product(torch.zeros_like(x), quantizer, stored, (8, 64), None).any()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@each_float
@each_product
def test_a_token_that_is_not_finite_does_not_come_out_finite(name: str, dtype: torch.dtype, value: float) -> None:
    product, quantizer = PRODUCTS[name]
    weight, bias = layer(dtype, 64, 8)
    weight[3] = 0
    x = states(dtype, (4, 64))
    x[1, 5] = value
    stored = quantizer.quantize(weight)
    y, clean = (product(part, quantizer, stored, (8, 64), bias) for part in (x, states(dtype, (4, 64))))
    assert not y[1].isfinite().any()
    assert torch.equal(y[[0, 2, 3]], clean[[0, 2, 3]])  # and no other token is touched


@each_product
def test_tokens_do_not_know_of_each_other(name: str) -> None:
    product, quantizer = PRODUCTS[name]
    weight, bias = layer(torch.float32, 64, 8)
    x, stored = states(torch.float32, (6, 64)), quantizer.quantize(weight)
    whole = product(x, quantizer, stored, (8, 64), bias)
    alone = torch.stack([product(token, quantizer, stored, (8, 64), bias) for token in x])
    # Bit for bit with integers; floats may be summed in another order.
    assert torch.equal(whole, alone) if name == "INT8_DYNAMIC" else torch.allclose(whole, alone, atol=1e-5)


@given(st.integers(0, 40), st.integers(1, 2100), st.integers(1, 40), st.booleans())
@settings(max_examples=30)
def test_int8_products_are_exact(rows: int, columns: int, outputs: int, extreme: bool) -> None:
    generator = torch.Generator().manual_seed(columns)
    low = 127 if extreme else -128

    def codes(count: int) -> Tensor:
        return torch.randint(low, 128, (count, columns), generator=generator, dtype=torch.int8)

    x, weight = codes(rows), codes(outputs)
    exact = x.double() @ weight.double().T
    products: list[Callable[[Tensor, Tensor], Tensor]] = [activations._int_product, activations._by_floats]
    for product in products:
        found = product(x, weight)
        assert found.dtype == torch.int32 and torch.equal(found.double(), exact)


def test_int8_products_of_lone_rows_and_columns_are_exact_whatever_their_strides() -> None:
    """Where a dimension is 1, torch's own product may take a stride for a reason to return what memory held before."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns, outputs in itertools.product([0, 1, 2, 16, 17], [1, 2, 9, 512], [1, 2, 8, 9]):
        x, weight = (
            torch.randint(-128, 128, (count, columns), generator=generator, dtype=torch.int8)
            for count in (rows, outputs)
        )
        exact = (x.double() @ weight.double().T).to(torch.int32)
        for odd in (0, 1, columns):
            left = x.as_strided((1, columns), (odd, 1)) if rows == 1 else x
            right = weight.as_strided((1, columns), (odd, 1)) if outputs == 1 else weight
            assert torch.equal(activations._int_product(left, right), exact), (rows, columns, outputs, odd)


def test_a_device_without_an_exact_integer_product_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(x: Tensor, weight: Tensor) -> Tensor:
        return (x.double() @ weight.double()).clamp(-(2**15), 2**15 - 1).to(torch.int32)

    def missing(x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    x, weight = states(torch.float32, (4, 64)), layer(torch.float32, 64, 8)[0]
    stored = INT8_PER_CHANNEL.quantize(weight)
    expected = INT8_DYNAMIC(x, INT8_PER_CHANNEL, stored, (8, 64), None)
    try:
        for broken in (saturating, missing):
            activations._int_mm_is_exact.cache_clear()
            monkeypatch.setattr(torch, "_int_mm", broken)
            assert not activations._int_mm_is_exact(x.device)
            assert torch.equal(INT8_DYNAMIC(x, INT8_PER_CHANNEL, stored, (8, 64), None), expected)
    finally:
        activations._int_mm_is_exact.cache_clear()


# ---- the formats beside each other


def test_more_bits_and_smaller_groups_lose_less() -> None:
    weight = weights("normal", 256, 256)

    def sqnr(quantizer: Integer) -> float:
        noise = weight.double() - quantizer.dequantize(quantizer.quantize(weight), (256, 256), torch.float64)
        return float(10 * torch.log10(weight.double().square().sum() / noise.square().sum()))

    by_bits = [sqnr(FORMATS[f"INT{bits}_G32"]) for bits in (2, 3, 4, 5, 6, 8)]
    assert by_bits == sorted(by_bits)
    # A bit more halves the step, which is 6 dB; the ends of the range take some of it where codes are few.
    assert all(
        5.5 < (more - less) / steps < 8
        for less, more, steps in zip(by_bits[:-1], by_bits[1:], [1, 1, 1, 1, 2], strict=True)
    )
    by_group = [sqnr(FORMATS[name]) for name in ("INT4_G128", "INT4_G64", "INT4_G32", "INT4_G32_ASYM")]
    assert by_group == sorted(by_group)
    assert sqnr(INT8_G32) > sqnr(INT8_PER_CHANNEL) > sqnr(INT6_G32)


def test_a_format_is_a_value() -> None:
    assert Integer(bits=4, group=32) == INT4_G32 and len(set(FORMATS.values())) == len(FORMATS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        INT4_G32.bits = 5  # type: ignore[misc]
