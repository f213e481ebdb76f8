"""NF4 and FP4: the tables from their definitions, codes and values against bitsandbytes, blocks and bytes."""

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from qfund.precisions.quantizers.codebook import FP4, NF4, Codebook
from qfund.precisions.quantizers.packing import unpack

BOTH = pytest.mark.parametrize("quantizer", [NF4, FP4], ids=lambda quantizer: quantizer.element)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def _normal(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02).to(dtype)


def _codes(stored: dict[str, Tensor], count: int) -> Tensor:
    return unpack(stored["data"][None], 4, count)[0]


def _restored(quantizer: Codebook, weight: Tensor) -> Tensor:
    restored = quantizer.dequantize(quantizer.quantize(weight), (weight.shape[0], weight.shape[1]), weight.dtype)
    assert (restored.shape, restored.dtype) == (weight.shape, weight.dtype)
    return restored


def test_nf4_values_are_quantiles_of_the_normal_distribution() -> None:
    """QLoRA's construction: equal steps of probability from each tail to zero, eight values above it, seven below."""
    offset = 1 - (1 / 30 + 1 / 32) / 2
    above = [NormalDist().inv_cdf(offset + (0.5 - offset) * i / 8) for i in range(8)]
    below = [-NormalDist().inv_cdf(offset + (0.5 - offset) * i / 7) for i in range(7)]
    expected = sorted(value / above[0] for value in [*below, 0.0, *above])
    assert list(NF4.values) == pytest.approx(expected, abs=1e-6)


def test_fp4_values_are_a_sign_two_exponent_bits_and_a_fraction_bit() -> None:
    """bitsandbytes' order: exponents 1, 2, 3 stand for 8, 4, 2 and exponent 0 for zero or 1/16, all in twelfths."""
    for code, value in enumerate(FP4.values):
        exponent, fraction = code >> 1 & 3, code & 1
        magnitude = 2.0 ** (4 - exponent) * (1 + fraction / 2) if exponent else fraction / 16
        assert value == (-magnitude if code >> 3 else magnitude) / 12


def test_nf4_by_hand() -> None:
    # One block of 16 and its absmax 2; first code of a byte in the low bits: −1 and −0.696 are codes 0 and 1.
    weight = 2 * torch.tensor([NF4.values])
    stored = NF4.quantize(weight)
    assert stored["data"].tolist() == [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]
    assert stored["scale"].tolist() == [2.0]
    assert torch.equal(NF4.dequantize(stored, (1, 16), torch.float32), weight)
    # 0.8 is nearer to 0.7230 than to 1, 0.9 is not; 0.04 is past the middle of 0 and 0.0796.
    assert _codes(NF4.quantize(torch.tensor([[1.0, 0.8, 0.9, 0.04, 0.03, -0.04, -0.05]])), 7).tolist() == [
        *(15, 14, 15, 8, 7, 7, 6)
    ]


def test_fp4_by_hand() -> None:
    # absmax 12, so that values are those of the table's twelfths; halfway (7, 10, −7) goes to the lower value.
    weight = torch.tensor([[12.0, 7.0, 10.0, -7.0, 7.1, 0.03, 0.04, 0.0, -0.02, -12.0]])
    stored = FP4.quantize(weight)
    assert _codes(stored, 10).tolist() == [3, 5, 2, 10, 2, 0, 1, 0, 0, 11]
    restored = FP4.dequantize(stored, (1, 10), torch.float32)
    expected = [12.0, 6.0, 8.0, -8.0, 8.0, 0.0, 0.0625, 0.0, 0.0, -12.0]
    assert restored[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_blocks_run_over_the_flattened_weight_and_the_last_is_shorter() -> None:
    weight = torch.full((3, 33), 0.5)  # 99 weights: a block of 64 that ends in the second row, and one of 35
    weight[1, 30], weight[1, 31] = 4.0, -8.0  # the last of the first block and the first of the second
    stored = NF4.quantize(weight)
    assert stored["scale"].tolist() == [4.0, 8.0] and stored["data"].shape == (50,)
    restored = NF4.dequantize(stored, (3, 33), torch.float32).flatten()
    # 1/8 lies between 0.0796 and 0.1609, 1/16 between 0 and 0.0796.
    assert restored[:63].tolist() == pytest.approx([4 * 0.16093020141124725] * 63)
    assert restored[63:65].tolist() == [4.0, -8.0]
    assert restored[65:].tolist() == pytest.approx([8 * 0.07958029955625534] * 34)


# ---- bitsandbytes


def _bitsandbytes(quantizer: Codebook, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Its codes, absmax and restored values."""
    functional: Any = pytest.importorskip("bitsandbytes.functional")
    # As one row: in 0.50.2 the CPU kernel dequantises rows of more than 64 that are no multiple of 64 with the absmax
    # of another block (up to 140 % off); codes and absmax are the same for any shape.
    packed, state = functional.quantize_4bit(weight.reshape(1, -1), blocksize=64, quant_type=quantizer.element)
    restored: Tensor = functional.dequantize_4bit(packed, state).view(weight.shape)
    # The first code of a byte is in its high bits. FP4 has two codes for zero: a tiny positive weight gets 8 there.
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten()[: weight.numel()]
    return torch.where(codes == 8, 0, codes) if quantizer is FP4 else codes, state.absmax, restored


@BOTH
@DTYPES
@pytest.mark.parametrize("shape", [(256, 256), (64, 1024), (3, 64), (4, 96), (1, 64)])
def test_codes_and_values_are_bitsandbytes(quantizer: Codebook, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    weight = _normal(shape, dtype)
    stored = quantizer.quantize(weight)
    codes, absmax, restored = _bitsandbytes(quantizer, weight)
    assert torch.equal(_codes(stored, weight.numel()), codes)
    assert torch.equal(stored["scale"], absmax)
    assert torch.equal(quantizer.dequantize(stored, shape, dtype), restored)


@BOTH
@DTYPES
@pytest.mark.parametrize("shape", [(50, 1), (1, 50), (7, 33), (5, 34), (3, 96)])
def test_a_shorter_last_block_differs_from_bitsandbytes_in_ties_alone(
    quantizer: Codebook, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    """There a last block is divided by its absmax and others are multiplied by the inverse; here all are multiplied."""
    levels = torch.tensor(sorted(set(quantizer.values)), dtype=torch.float64)
    for seed in range(100):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
        stored = quantizer.quantize(weight)
        codes, absmax, restored = _bitsandbytes(quantizer, weight)
        assert torch.equal(stored["scale"], absmax)
        differing = (_codes(stored, weight.numel()) != codes).nonzero().flatten()
        assert (differing >= weight.numel() // 64 * 64).all()
        units = weight.flatten()[differing].double() / stored["scale"][-1].double()
        to_halfway = (units[:, None] - (levels[1:] + levels[:-1]) / 2).abs().amin(1)
        assert (to_halfway < 2e-7).all()
        moved = (quantizer.dequantize(stored, shape, dtype) != restored).flatten().nonzero().flatten()
        assert torch.equal(moved, differing)


@BOTH
def test_tiny_blocks_are_right_where_bitsandbytes_are_not(quantizer: Codebook) -> None:
    weight = torch.tensor([[1.0, -0.5, 0.25, 0.0] * 16]) * 1e-39
    expected = _restored(quantizer, torch.tensor([[1.0, -0.5, 0.25, 0.0] * 16]))
    assert torch.allclose(_restored(quantizer, weight).double() / 1e-39, expected.double(), atol=1e-5)
    _, _, theirs = _bitsandbytes(quantizer, weight)  # its smallest divisor is 1e-38
    assert theirs[0, 0].item() < 0.2e-39


# ---- properties


@BOTH
@pytest.mark.parametrize("size", [1e-45, 1e-41, 1e-39, 2e-38, 1e30, 3.4e38])
def test_tiny_and_huge_weights_keep_their_codes(quantizer: Codebook, size: float) -> None:
    usual = torch.tensor([[1.0, 0.0, -1.0] * 30])
    weight = usual * size
    restored = _restored(quantizer, weight)
    assert torch.equal(restored, weight)
    assert quantizer.saturated(weight, quantizer.quantize(weight)) == 0


@BOTH
@pytest.mark.parametrize("shape", [(1, 1), (2, 64), (3, 50)])
def test_an_all_zero_weight_stays_zero(quantizer: Codebook, shape: tuple[int, int]) -> None:
    stored = quantizer.quantize(torch.zeros(shape))
    assert (_codes(stored, shape[0] * shape[1]) == quantizer.values.index(0.0)).all()
    assert quantizer.dequantize(stored, shape, torch.float32).tolist() == torch.zeros(shape).tolist()


MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 70)),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


@BOTH
@given(MATRICES)
def test_every_weight_gets_the_nearest_value(quantizer: Codebook, values: Any) -> None:
    weight = torch.from_numpy(values)
    restored = _restored(quantizer, weight).double().flatten()
    absmax = quantizer.quantize(weight)["scale"].double().repeat_interleave(64)[: weight.numel()]
    grid = absmax[:, None] * torch.tensor(quantizer.values, dtype=torch.float64)
    exact = weight.double().flatten()
    best = (exact[:, None] - grid).abs().amin(1)
    assert ((exact - restored).abs() - best <= absmax * 2e-7).all()


@BOTH
@given(MATRICES, st.integers(-20, 20))
def test_a_power_of_two_changes_the_scale_only(quantizer: Codebook, values: Any, exponent: int) -> None:
    weight = torch.from_numpy(values)
    assume(weight[weight != 0].abs().min() > 1e-20 if weight.any() else True)
    stored, other = (quantizer.quantize(part) for part in (weight, weight * 2.0**exponent))
    assert torch.equal(stored["data"], other["data"])
    assert torch.equal(stored["scale"] * 2.0**exponent, other["scale"])


@BOTH
def test_blocks_do_not_know_of_each_other(quantizer: Codebook) -> None:
    weight = _normal((8, 40))  # 320 weights, 5 blocks
    blocks = [_restored(quantizer, weight.view(5, 1, 64)[i]) for i in range(5)]
    assert torch.equal(_restored(quantizer, weight).view(5, 64), torch.cat(blocks))


@BOTH
def test_a_transposed_view_is_quantized_as_its_copy(quantizer: Codebook) -> None:
    weight = _normal((7, 30))
    assert torch.equal(_restored(quantizer, weight.T), _restored(quantizer, weight.T.contiguous()))


@BOTH
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
@settings(max_examples=20)
def test_layout_foretells_what_is_stored(quantizer: Codebook, rows: int, columns: int, dtype: torch.dtype) -> None:
    stored, layout = quantizer.quantize(_normal((rows, columns), dtype)), quantizer.layout((rows, columns), dtype)
    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in stored.items()} == layout
    count = rows * columns
    assert sum(part.bytes for part in layout.values()) == -(-count // 2) + 4 * -(-count // 64)
