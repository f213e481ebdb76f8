"""MXFP8, MXFP4 and NVFP4: by hand, against torchao bit for bit, clipping, shorter last blocks and tiny scales."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from qfund.precisions.quantizers.microscaling import MX, MXFP4, MXFP8, NVFP4, NVFloat4
from qfund.precisions.quantizers.packing import unpack

Microscaled = MX | NVFloat4
NAMES: dict[Microscaled, str] = {MXFP8: "mxfp8", MXFP4: "mxfp4", NVFP4: "nvfp4"}
ALL = pytest.mark.parametrize("quantizer", NAMES, ids=NAMES.get)
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], dtype=torch.float64)
E4M3 = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).double()


def _normal(shape: tuple[int, int], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _sqnr(signal: Tensor, noisy: Tensor) -> float:
    noise = (signal.double() - noisy.double()).square().sum()
    return float(10 * torch.log10(signal.double().square().sum() / noise))


def _restored(quantizer: Microscaled, weight: Tensor) -> Tensor:
    restored = quantizer.dequantize(quantizer.quantize(weight), (weight.shape[0], weight.shape[1]), weight.dtype)
    assert (restored.shape, restored.dtype) == (weight.shape, weight.dtype)
    return restored


def _scales(quantizer: Microscaled, weight: Tensor) -> Tensor:
    """The scale beside each weight, float64."""
    stored = quantizer.quantize(weight)
    scale = stored["scale"].float().double() * stored.get("scale_tensor", torch.ones(1)).double()
    return scale.repeat_interleave(quantizer.block, 1)[:, : weight.shape[1]]


# ---- by hand


def test_mxfp4_by_hand() -> None:
    # absmax 7.9, ⌊log2⌋ = 2, largest element 6 = 1.5 · 2²: the scale is 1. Ties go to the even code: 0.25 to 0 and 0.75
    # to 1, 1.25 to 1 and 1.75 to 2, 2.5 to 2 and 3.5 to 4, 5 to 4. What is above 6 is clipped.
    weight = torch.tensor([[7.9, -7.1, 7.0, 6.5, 5.0, 5.1, 3.5, 2.5, 1.75, 1.25, 0.75, -0.25, 0.26, -0.6, 0.0]])
    stored = MXFP4.quantize(weight)
    assert stored["scale"].dtype == torch.float8_e8m0fnu and stored["scale"].float().tolist() == [[1.0]]
    codes = [7, 8 + 7, 7, 7, 6, 7, 6, 4, 4, 2, 2, 8, 1, 8 + 1, 0]
    assert unpack(stored["data"], 4, 15).tolist() == [codes]
    assert stored["data"].tolist() == [[0xF7, 0x77, 0x76, 0x46, 0x24, 0x82, 0x91, 0x00]]
    restored = MXFP4.dequantize(stored, (1, 15), torch.float32)
    assert restored.tolist() == [[6.0, -6.0, 6.0, 6.0, 4.0, 6.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.0, 0.5, -0.5, 0.0]]
    # 7 is off by half a step, 6.5 by less: the two above it were clipped.
    assert MXFP4.saturated(weight, stored) == 2
    assert MXFP4.saturated(weight * 7 / 7.9, MXFP4.quantize(weight * 7 / 7.9)) == 0


def test_mxfp8_by_hand() -> None:
    # The largest element is 448 = 1.75 · 2⁸. A block of 511 has the scale 1, one of 512 the scale 2.
    weight = torch.zeros(2, 64)
    weight[0, :5] = torch.tensor([511.0, 464.0, -465.0, 17.0, 2.0**-10])
    weight[0, 32:34] = torch.tensor([512.0, 17.0])
    weight[1, 0] = 0.3
    stored = MXFP8.quantize(weight)
    assert stored["scale"].float().tolist() == [[1.0, 2.0], [2.0 ** (-2 - 8), 2.0**-127]]
    restored = MXFP8.dequantize(stored, (2, 64), torch.float32)
    assert restored[0, :5].tolist() == [448.0, 448.0, -448.0, 16.0, 0.0]
    assert restored[0, 32:34].tolist() == [512.0, 17.0 - 1.0]  # 8.5 → 8 of 2
    assert restored[1, 0] == 0.3125 and restored[1, 1:].tolist() == [0.0] * 63
    assert MXFP8.saturated(weight, stored) == 2  # 464 is half a step of 32 away


def test_nvfp4_by_hand() -> None:
    # absmax 2688 = 448 · 6 over the whole weight, so its scale is 1; the blocks' are 448, 1 and that of 6.3 / 6 = 1.05,
    # for which e4m3 has 1.0 and 1.125.
    weight = torch.zeros(1, 40)
    weight[0, :2] = torch.tensor([2688.0, 448.0 * 2.4])
    weight[0, 16:19] = torch.tensor([6.0, -0.7, 5.0])
    weight[0, 32:34] = torch.tensor([6.3, 2.6])
    stored = NVFP4.quantize(weight)
    assert stored["scale_tensor"].tolist() == [1.0]
    assert stored["scale"].dtype == torch.float8_e4m3fn and stored["scale"].float().tolist() == [[448.0, 1.0, 1.0]]
    restored = NVFP4.dequantize(stored, (1, 40), torch.float32)[0]
    assert restored[:2].tolist() == [2688.0, 896.0] and restored[16:19].tolist() == [6.0, -0.5, 4.0]
    assert restored[32:34].tolist() == [6.0, 3.0] and int((restored != 0).sum()) == 7
    assert NVFP4.saturated(weight, stored) == 0  # 6.3 is above 6, by less than half a step
    assert NVFP4.saturated(weight * 1.2, stored) == 3  # by the scales of a smaller weight, a largest one a block


# ---- torchao


def _torchaos_mx(quantizer: MX, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mx: Any = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    element = torch.float8_e4m3fn if quantizer is MXFP8 else torch.float4_e2m1fn_x2
    scale, data = mx.to_mx(weight, element, 32)  # FLOOR, not swizzled
    return data, scale, mx.to_dtype(data, scale, element, 32, weight.dtype)


def _torchaos_nvfp4(weight: Tensor) -> Any:
    nvfp4: Any = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    return nvfp4.NVFP4Tensor.to_nvfp4(
        weight, per_tensor_scale=nvfp4.per_tensor_amax_to_scale(weight.abs().max()), is_swizzled_scales=False
    )


SHAPES = pytest.mark.parametrize("shape", [(256, 256), (64, 1024), (3, 96), (1, 32)])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
SIZES = pytest.mark.parametrize("size", [0.02, 1e-30, 1e30])


def _wide(shape: tuple[int, int], dtype: torch.dtype, size: float) -> Tensor:
    """Magnitudes over some decades."""
    return (_normal(shape) * torch.exp(2 * _normal(shape, seed=2)) * size).to(dtype)


@pytest.mark.parametrize("quantizer", [MXFP8, MXFP4], ids=NAMES.get)
@SHAPES
@DTYPES
@SIZES
def test_mx_is_torchaos(quantizer: MX, shape: tuple[int, int], dtype: torch.dtype, size: float) -> None:
    weight = _wide(shape, dtype, size)
    stored = quantizer.quantize(weight)
    data, scale, restored = _torchaos_mx(quantizer, weight)
    assert torch.equal(stored["scale"].view(torch.uint8), scale.view(torch.uint8))
    assert torch.equal(stored["data"].view(torch.uint8), data.view(torch.uint8))
    assert torch.equal(quantizer.dequantize(stored, shape, dtype), restored)


@SHAPES
@DTYPES
@SIZES
def test_nvfp4_is_torchaos(shape: tuple[int, int], dtype: torch.dtype, size: float) -> None:
    weight = _wide(shape, dtype, size)
    stored, theirs = NVFP4.quantize(weight), _torchaos_nvfp4(weight)
    assert torch.equal(stored["scale_tensor"][0], theirs.per_tensor_scale)
    assert torch.equal(stored["scale"].view(torch.uint8), theirs.scale.view(torch.uint8))
    assert torch.equal(stored["data"], theirs.qdata)
    assert torch.equal(NVFP4.dequantize(stored, shape, dtype), theirs.dequantize())


def test_ties_are_torchaos() -> None:
    halfway = ((E2M1[1:] + E2M1[:-1]) / 2).float()
    weight = torch.zeros(1, 32)
    weight[0, :7], weight[0, 7:14], weight[0, 14] = halfway, -halfway, 6.0
    for quantizer in (MXFP4, MXFP8):
        assert torch.equal(_restored(quantizer, weight), _torchaos_mx(quantizer, weight)[2])


def test_an_all_zero_weight_stays_zero_where_torchaos_nvfp4_is_nan() -> None:
    weight = torch.zeros(2, 32)
    for quantizer in NAMES:
        assert _restored(quantizer, weight).tolist() == weight.tolist()
        assert quantizer.saturated(weight, quantizer.quantize(weight)) == 0
    assert _torchaos_nvfp4(weight).dequantize().isnan().all()


@pytest.mark.parametrize("quantizer", [MXFP8, MXFP4], ids=NAMES.get)
def test_the_smallest_mx_scale_is_what_it_says(quantizer: MX) -> None:
    """torchao divides by 2⁻¹²⁶ where it stores 2⁻¹²⁷, and so halves the weights of such a block."""
    weight = torch.full((1, 32), 2.0**-126)
    assert quantizer.quantize(weight)["scale"].float().tolist() == [[2.0**-127]]
    assert torch.equal(_restored(quantizer, weight), weight)
    assert torch.equal(_torchaos_mx(quantizer, weight)[2], weight / 2)


# ---- tiny, huge, short


@pytest.mark.parametrize("size", [1e-35, 1e-37, 1e-38, 1e-39, 1e-40, 1e-41, 1.7e-42, 1e-42, 1e-43, 1e30, 1e37])
def test_tiny_and_huge_weights_are_as_exact_as_others_in_nvfp4(size: float) -> None:
    weight = _normal((16, 130)).double()
    usual = _sqnr(weight, _restored(NVFP4, weight.float()))
    scaled = (weight * size).float()
    assert _sqnr(scaled, _restored(NVFP4, scaled)) == pytest.approx(usual, abs=0.5)
    assert NVFP4.saturated(scaled, NVFP4.quantize(scaled)) == 0


def test_a_scale_of_few_bits_clips_nothing_in_nvfp4() -> None:
    # 3900 / 2688 = 1.45 of the smallest float, which would be rounded to 1 and be too small a scale.
    weight = torch.full((1, 16), 3900 * 2.0**-149)
    stored = NVFP4.quantize(weight)
    assert NVFP4.saturated(weight, stored) == 0
    assert (_restored(NVFP4, weight).double() / weight.double() - 1).abs().max() < 1 / 16


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-38, 1e-36, 1e30, 1e37])
def test_tiny_weights_are_off_by_half_a_step_of_the_smallest_scale_in_mx(size: float) -> None:
    weight = (_normal((16, 130)).double() * size).float()
    for quantizer, smallest_step in ((MXFP8, 2.0**-9), (MXFP4, 0.5)):
        error = (weight.double() - _restored(quantizer, weight).double()).abs()
        # Of the largest magnitudes a quarter is clipped away at most (8 → 6), of others a sixteenth or a quarter is
        # rounded away (e4m3: half of an eighth).
        rounded = weight.abs().double() * (0.25 if quantizer is MXFP4 else 0.125)
        assert (error <= torch.maximum(rounded, _scales(quantizer, weight) * smallest_step / 2)).all()


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_largest_floats_stay_finite(quantizer: Microscaled, dtype: torch.dtype) -> None:
    bits = torch.tensor([[torch.finfo(dtype).max]], dtype=dtype).view(
        torch.int32 if dtype == torch.float32 else torch.int16
    )
    for below in range(100):
        weight = (bits - below).view(dtype)
        restored = _restored(quantizer, weight)
        assert restored.isfinite().all() and restored.double() / weight.double() > 0.74


@ALL
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 33), (2, 50), (4, 47)])
def test_a_shorter_last_block_is_one_padded_with_zeros(quantizer: Microscaled, shape: tuple[int, int]) -> None:
    weight = _normal(shape)
    padded = torch.nn.functional.pad(weight, (0, -shape[1] % quantizer.block))
    assert torch.equal(_restored(quantizer, weight), _restored(quantizer, padded)[:, : shape[1]])
    stored, whole = quantizer.quantize(weight), quantizer.quantize(padded)
    assert torch.equal(stored["scale"].float(), whole["scale"].float())
    assert quantizer.saturated(weight, stored) == quantizer.saturated(padded, whole)


@ALL
def test_a_transposed_view_is_quantized_as_its_copy(quantizer: Microscaled) -> None:
    weight = _normal((50, 12)).T
    assert torch.equal(_restored(quantizer, weight), _restored(quantizer, weight.contiguous()))
    copy = weight.contiguous()
    assert quantizer.saturated(weight, quantizer.quantize(weight)) == quantizer.saturated(
        copy, quantizer.quantize(copy)
    )


# ---- properties

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 70)),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


@ALL
@given(MATRICES)
def test_every_weight_gets_the_nearest_code_and_those_too_large_are_counted(
    quantizer: Microscaled, values: Any
) -> None:
    weight = torch.from_numpy(values)
    scales = _scales(quantizer, weight)
    grid = E4M3 if quantizer is MXFP8 else E2M1
    units = (weight.double() / scales).abs()
    chosen = (_restored(quantizer, weight).double() / scales).abs()
    best = (units[..., None] - grid).abs().amin(-1)
    assert ((units - chosen).abs() - best <= units * 2.0**-22).all()
    assert (weight.sign() * _restored(quantizer, weight).sign() >= 0).all()
    half_a_step = (grid[-1] - grid[-2]) / 2
    expected = int((units > grid[-1] + half_a_step).sum())
    assert quantizer.saturated(weight, quantizer.quantize(weight)) == expected
    if quantizer is NVFP4:
        assert expected == 0


@ALL
@given(MATRICES, st.integers(-20, 20))
def test_a_power_of_two_changes_a_scale_only(quantizer: Microscaled, values: Any, exponent: int) -> None:
    weight = torch.from_numpy(np.where(np.abs(values) < 1e-6, 0, values))
    stored, other = (quantizer.quantize(part) for part in (weight, weight * 2.0**exponent))
    assert torch.equal(stored["data"].view(torch.uint8), other["data"].view(torch.uint8))
    assert torch.equal(_restored(quantizer, weight) * 2.0**exponent, _restored(quantizer, weight * 2.0**exponent))


@pytest.mark.parametrize("quantizer", [MXFP8, MXFP4], ids=NAMES.get)
@given(MATRICES)
def test_blocks_do_not_know_of_each_other(quantizer: MX, values: Any) -> None:
    weight = torch.from_numpy(values)
    blocks = [_restored(quantizer, part) for part in weight.split(32, 1)]
    assert torch.equal(_restored(quantizer, weight), torch.cat(blocks, 1))


def test_blocks_of_nvfp4_know_of_the_largest_weight_alone() -> None:
    weight = _normal((4, 64))
    weight[0, 0] = 9.0
    before = _restored(NVFP4, weight)
    weight[1, 16:32] *= 2
    assert weight.abs().max() == 9.0
    after = _restored(NVFP4, weight)
    changed = (before != after).nonzero()
    assert len(changed) and (changed[:, 0] == 1).all() and (changed[:, 1] // 16 == 1).all()


@ALL
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
@settings(max_examples=20)
def test_layout_foretells_what_is_stored(quantizer: Microscaled, rows: int, columns: int, dtype: torch.dtype) -> None:
    stored, layout = quantizer.quantize(_normal((rows, columns), dtype)), quantizer.layout((rows, columns), dtype)
    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in stored.items()} == layout


@pytest.mark.parametrize(("quantizer", "bits"), [(MXFP8, 8.25), (MXFP4, 4.25), (NVFP4, 4.5)])
def test_bits_per_weight(quantizer: Microscaled, bits: float) -> None:
    parts = quantizer.layout((96, 64), torch.float32)
    assert sum(part.bytes for part in parts.values()) * 8 == 96 * 64 * bits + (32 if quantizer is NVFP4 else 0)


def test_elements() -> None:
    assert [quantizer.element for quantizer in NAMES] == ["float8_e4m3fn", "float4_e2m1", "float4_e2m1"]
