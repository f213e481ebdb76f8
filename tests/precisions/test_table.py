"""The table of precisions: every row is true of what it names."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from qfund.core.errors import UnavailablePrecision, UnknownName
from qfund.precisions.precision import CAST, FAMILIES, GGUF, MEANING, STORED, Precision
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS, require, unavailable

NAMED = (
    *("fp64", "fp32", "tf32", "bf16", "fp16"),
    *("int8", "int8_dynamic", "int8_g32", "int4", "int4_asym", "int4_g64", "int4_g128", "int6", "int5", "int3", "int2"),
    *("fp8_e4m3", "fp8_e5m2", "nf4", "fp4", "mxfp8", "mxfp4", "nvfp4"),
)
QUANTIZING = [name for name, row in PRECISIONS.items() if row.quantizer]


def test_names_that_links_use_are_there() -> None:
    assert set(NAMED) <= PRECISIONS.keys()
    for name in NAMED:
        assert (f"{name}_bf16" in PRECISIONS) == (PRECISIONS[name].quantizer is not None)
    assert all(name == row.name and name == name.lower() for name, row in PRECISIONS.items())
    assert len({row.label for row in PRECISIONS.values()}) == len(PRECISIONS)


@pytest.mark.parametrize("row", PRECISIONS.values(), ids=str)
def test_every_row_says_everything(row: Precision) -> None:
    assert row.family in FAMILIES and row.meaning.endswith(".") and "{" not in row.arithmetic + row.meaning
    assert all((row.granularity, row.storage, row.base, row.runs_on, row.treatment))
    assert (row.product is None) == row.weights_only
    if row.family not in (CAST, MEANING, STORED):
        assert row.quantizer and row.effective_bits >= row.bits
    if row.family == MEANING:  # one way to be something else than the cast of that name
        assert [bool(row.every_matrix and row.quantizer), bool(row.autocast), bool(row.head)].count(True) == 1


@pytest.mark.parametrize("name", QUANTIZING)
def test_a_variant_is_the_same_format_on_another_base(name: str) -> None:
    row = PRECISIONS[name]
    if row.variant_of is None:
        assert row.dtype == "float32"
        return
    other = PRECISIONS[row.variant_of]
    if row.family == GGUF:  # the same file as it is run
        assert (row.quantizer, row.bits, row.dtype) == (other.quantizer, other.bits, other.dtype)
        assert row.product and not other.product and row.as_run and not other.as_run
        return
    assert (row.quantizer, row.product, row.bits, row.family) == (
        other.quantizer,
        other.product,
        other.bits,
        other.family,
    )
    assert row.dtype == "bfloat16" and "BF16" in row.label


@pytest.mark.parametrize("name", QUANTIZING)
def test_effective_bits_are_those_of_what_is_stored(name: str) -> None:
    row = PRECISIONS[name]
    quantizer = quantizer_of(row)
    assert quantizer is not None
    shape, dtype = (4096, 8192), getattr(torch, row.dtype)
    bits = 8 * sum(layout.bytes for layout in quantizer.layout(shape, dtype).values()) / (shape[0] * shape[1])
    # A scale for a whole row of 8192 is what a large matrix leaves over.
    assert bits == pytest.approx(row.effective_bits, abs=32 / 8192 + 1e-5)


def sqnr(signal: Tensor, noisy: Tensor) -> float:
    noise = (signal.double() - noisy.double()).square().sum()
    return float("inf") if noise == 0 else float(10 * torch.log10(signal.double().square().sum() / noise))


def stored_and_back(weight: Tensor, row: Precision) -> Tensor:
    """A weight as a model holds it in that precision."""
    quantizer, found = quantizer_of(row), weight.to(getattr(torch, row.dtype))
    if quantizer is None:
        return found
    rows, columns = weight.shape
    return quantizer.dequantize(quantizer.quantize(found), (rows, columns), found.dtype)


@pytest.mark.parametrize("shape", [(256, 256), (64, 1024)])
@pytest.mark.parametrize("name", [name for name, row in PRECISIONS.items() if row.family != STORED])
def test_signal_to_noise_of_normal_weights_reaches_the_rows_floor(name: str, shape: tuple[int, int]) -> None:
    row = PRECISIONS[name]
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02
    measured = sqnr(weight, stored_and_back(weight, row))
    assert measured >= row.sqnr_floor, f"{row.label}: {measured:.2f} dB, below {row.sqnr_floor} dB"
    # A floor far below what is reached would guard nothing.
    assert measured - row.sqnr_floor < 2.5 or measured == float("inf"), f"{row.label}: {measured:.2f} dB"


def test_a_bit_is_worth_about_six_decibels() -> None:
    """20·log10 2 = 6.02 dB, a little more where few codes are clamped at one end."""
    weight = torch.randn((128, 512), generator=torch.Generator().manual_seed(2)) * 0.02
    ladder = [PRECISIONS[name] for name in ("int2", "int3", "int4", "int5", "int6", "int8_g32")]
    found = [sqnr(weight, stored_and_back(weight, row)) for row in ladder]
    for (row, decibels), (wider, more) in pairwise(zip(ladder, found, strict=True)):
        assert 5.8 < (more - decibels) / (wider.bits - row.bits) < 7.5, (row.name, wider.name)


def test_what_cannot_run_here_says_why() -> None:
    tf32 = PRECISIONS["tf32"]
    assert unavailable(tf32, "cuda:1") is None and unavailable(tf32, "cpu") is not None
    assert all(unavailable(row, "cpu") is None for row in PRECISIONS.values() if row.runs_on != "CUDA")
    with pytest.raises(UnavailablePrecision, match="TF32 needs an NVIDIA GPU of compute capability"):
        require(tf32, "cpu")


def test_an_unknown_precision_is_met_with_the_closest() -> None:
    from qfund.precisions.table import precision

    with pytest.raises(UnknownName, match=r"Unknown precision 'int4_g63'\. Did you mean: int4_g64\?"):
        precision("int4_g63")
