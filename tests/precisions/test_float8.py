"""Float8 with a scale per row: by hand, against torchao bit for bit, and at both ends of float32."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from qfund.precisions.quantizers.float8 import FP8_E4M3, FP8_E5M2, Float8PerRow

BOTH = pytest.mark.parametrize("quantizer", [FP8_E4M3, FP8_E5M2], ids=lambda quantizer: quantizer.element)
#: Every finite number of each format.
GRIDS = {
    quantizer.dtype: (every := torch.arange(256, dtype=torch.uint8).view(quantizer.dtype).double())[every.isfinite()]
    for quantizer in (FP8_E4M3, FP8_E5M2)
}


def _normal(shape: tuple[int, int], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _sqnr(signal: Tensor, noisy: Tensor) -> float:
    noise = (signal.double() - noisy.double()).square().sum()
    return float(10 * torch.log10(signal.double().square().sum() / noise))


def _restored(quantizer: Float8PerRow, weight: Tensor) -> Tensor:
    restored = quantizer.dequantize(quantizer.quantize(weight), (weight.shape[0], weight.shape[1]), weight.dtype)
    assert (restored.shape, restored.dtype) == (weight.shape, weight.dtype)
    return restored


def test_e4m3_by_hand() -> None:
    # The row's absmax is 448, so a scale is 1. Between 16 and 32 codes lie 2 apart: 17 and 19 are ties, and go to the
    # code with the even fraction (16, 20). The smallest code is 2⁻⁹, half of which rounds to zero.
    weight = torch.tensor([[-448.0, 17.0, 19.0, 19.1, 0.3, 2.0**-9, 2.0**-10, -(2.0**-10) * 1.01]])
    stored = FP8_E4M3.quantize(torch.cat([weight, 2 * weight, torch.zeros_like(weight)]))
    expected = [-448.0, 16.0, 20.0, 20.0, 0.3125, 2.0**-9, 0.0, -(2.0**-9)]
    assert stored["data"].dtype == torch.float8_e4m3fn and stored["data"].float()[:2].tolist() == [expected] * 2
    assert stored["scale"][:2].tolist() == [[1.0], [2.0]]
    restored = FP8_E4M3.dequantize(stored, (3, 8), torch.float32)
    assert restored.tolist() == [expected, [2 * value for value in expected], [0.0] * 8]


def test_e5m2_by_hand() -> None:
    # Two fraction bits: between 8 and 16 codes lie 2 apart; the largest is 57344, the smallest 2⁻¹⁶.
    weight = torch.tensor([[57344.0, 9.0, 11.0, -11.1, 0.3, 2.0**-16, 2.0**-17]])
    stored = FP8_E5M2.quantize(weight)
    assert stored["data"].dtype == torch.float8_e5m2 and stored["scale"].tolist() == [[1.0]]
    assert stored["data"].float().tolist() == [[57344.0, 8.0, 12.0, -12.0, 0.3125, 2.0**-16, 0.0]]


def _torchaos(quantizer: Float8PerRow, weight: Tensor) -> Any:
    quantization = pytest.importorskip("torchao.quantization")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    quantization.quantize_(
        linear,
        quantization.Float8WeightOnlyConfig(
            weight_dtype=quantizer.dtype, granularity=quantization.PerRow(), set_inductor_config=False
        ),
    )
    return linear.weight


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(256, 256), (64, 1024), (5, 33), (3, 2)])
@pytest.mark.parametrize("size", [0.02, 1e-30, 1e30])
def test_codes_scales_and_values_are_torchaos(
    quantizer: Float8PerRow, dtype: torch.dtype, shape: tuple[int, int], size: float
) -> None:
    weight = (_normal(shape) * torch.exp(2 * _normal(shape, seed=2)) * size).to(dtype)
    stored, theirs = quantizer.quantize(weight), _torchaos(quantizer, weight)
    assert torch.equal(stored["scale"], theirs.scale)
    assert torch.equal(stored["data"].view(torch.uint8), theirs.qdata.view(torch.uint8))
    assert torch.equal(quantizer.dequantize(stored, shape, dtype), theirs.dequantize())


@BOTH
def test_an_all_zero_row_stays_zero_where_torchaos_is_nan(quantizer: Float8PerRow) -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    assert _restored(quantizer, weight)[1].tolist() == [0.0, 0.0, 0.0]
    theirs = _torchaos(quantizer, weight).dequantize()
    assert theirs[1].isnan().all() and torch.equal(theirs[0], _restored(quantizer, weight)[0])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_floats_stay_finite(quantizer: Float8PerRow, dtype: torch.dtype) -> None:
    bits = torch.tensor([[torch.finfo(dtype).max]], dtype=dtype).view(
        torch.int32 if dtype == torch.float32 else torch.int16
    )
    weight = (bits - torch.arange(100, dtype=bits.dtype)[:, None]).view(dtype)  # a row each
    restored = _restored(quantizer, weight)
    assert restored.isfinite().all()
    assert (restored.double() / weight.double() - 1).abs().max() <= (0.02 if dtype == torch.bfloat16 else 1e-6)


@BOTH
@pytest.mark.parametrize("size", [1e-37, 1e-38, 1e-39, 1e-40, 1e-41, 1e-42, 1e-43, 1e30, 1e37])
def test_tiny_and_huge_weights_are_as_exact_as_others(quantizer: Float8PerRow, size: float) -> None:
    weight = _normal((16, 130)).double()
    usual = _sqnr(weight, _restored(quantizer, weight.float()))
    scaled = (weight * size).float()  # the smallest of these have six bits left
    assert _sqnr(scaled, _restored(quantizer, scaled)) == pytest.approx(usual, abs=1)
    assert quantizer.saturated(scaled, quantizer.quantize(scaled)) == 0


MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 24)),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


@BOTH
@given(MATRICES)
def test_every_weight_gets_the_nearest_code(quantizer: Float8PerRow, values: Any) -> None:
    weight = torch.from_numpy(values)
    stored = quantizer.quantize(weight)
    units = weight.double() / stored["scale"].double()
    chosen = (units - stored["data"].double()).abs()
    best = (units[..., None] - GRIDS[quantizer.dtype]).abs().amin(-1)
    # In float32 a quotient is off by 2⁻²⁴ of itself at most.
    assert (chosen - best <= units.abs() * 2.0**-23).all()
    assert quantizer.saturated(weight, stored) == 0


@BOTH
@given(MATRICES, st.integers(-20, 20), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_power_of_two_changes_the_scale_only(
    quantizer: Float8PerRow, values: Any, exponent: int, dtype: torch.dtype
) -> None:
    weight = torch.from_numpy(values).to(dtype)
    assume(weight.abs().amax(1).min() > 1)
    stored, other = (quantizer.quantize(part) for part in (weight, weight * 2.0**exponent))
    assert torch.equal(stored["data"].float(), other["data"].float())
    assert torch.equal(stored["scale"] * 2.0**exponent, other["scale"])


@BOTH
@given(MATRICES)
def test_rows_do_not_know_of_each_other(quantizer: Float8PerRow, values: Any) -> None:
    weight = torch.from_numpy(values)
    rows = [_restored(quantizer, weight[i : i + 1]) for i in range(len(weight))]
    assert torch.equal(_restored(quantizer, weight), torch.cat(rows))


@BOTH
def test_a_transposed_view_is_quantized_as_its_copy(quantizer: Float8PerRow) -> None:
    weight = _normal((7, 12))
    assert torch.equal(_restored(quantizer, weight.T), _restored(quantizer, weight.T.contiguous()))


def test_saturated_counts_what_is_more_than_half_a_step_beyond_a_scales_reach() -> None:
    weight = torch.tensor([[448.0, 464.0, 464.1, -470.0, 1.0]])
    given = {"scale": torch.ones(1, 1)}
    assert FP8_E4M3.saturated(weight, given) == 2  # 448 and the next step, 480, meet at 464
    assert FP8_E4M3.saturated(weight, FP8_E4M3.quantize(weight)) == 0
    assert FP8_E5M2.saturated(torch.tensor([[61440.0, 61441.0]]), given) == 1


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_layout_foretells_what_is_stored(quantizer: Float8PerRow, dtype: torch.dtype) -> None:
    stored, layout = quantizer.quantize(_normal((5, 33), dtype)), quantizer.layout((5, 33), dtype)
    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in stored.items()} == layout
    assert sum(part.bytes for part in layout.values()) == 5 * 33 + 4 * 5


def test_elements_are_torchs_names() -> None:
    assert (FP8_E4M3.element, FP8_E5M2.element) == ("float8_e4m3fn", "float8_e5m2")
