"""Blocks beside the same searches written weight by weight, in single precision, and what must hold of every block."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from qfund.precisions.quantizers.ggml import blocks
from qfund.precisions.quantizers.ggml.blocks import Blocks
from qfund.precisions.quantizers.ggml.search import affine, symmetric

F = np.float32
TYPES = ("Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS")
every_type = pytest.mark.parametrize("kind", [Blocks(name) for name in TYPES], ids=lambda kind: kind.name)


def runs(count: int, size: int) -> NDArray[np.float32]:
    """Awkward runs of weights among usual ones."""
    x = np.random.default_rng(5).normal(0, 0.02, (count, size)).astype(F)
    x[1] = 0
    x[2] = 0.25
    x[3] = -0.25
    x[4] = np.abs(x[4])
    x[5] = -np.abs(x[5])
    x[6, 7] = 3
    x[7] = np.where(np.arange(size) % 2, F(1e-20), F(0))
    return x


def affine_by_hand(
    x: Sequence[np.float32], weights: Sequence[np.float32], top: int, first: float, steps: int, absolute: bool
) -> tuple[np.float32, np.float32]:
    low, high, sum_w, sum_x = x[0], x[0], weights[0], weights[0] * x[0]
    for value, weight in zip(x[1:], weights[1:], strict=True):
        low, high = min(low, value), max(high, value)
        sum_w, sum_x = sum_w + weight, sum_x + weight * value
    low = min(low, F(0))
    if high == low:
        return F(0), low

    def codes(inverse: np.float32) -> list[np.float32]:
        return [F(min(max(np.rint(inverse * (value - low)), 0), top)) for value in x]

    def error(scale: np.float32, minimum: np.float32, found: list[np.float32]) -> np.float32:
        sum_e = F(0)
        for value, weight, code in zip(x, weights, found, strict=True):
            off = scale * code + minimum - value
            sum_e = sum_e + weight * (abs(off) if absolute else off * off)
        return sum_e

    inverse = F(top) / (high - low)
    scale = F(1) / inverse
    best = error(scale, low, codes(inverse))
    for number in range(steps + 1):
        found = codes((F(first) + F(0.1) * F(number) + F(top)) / (high - low))
        sum_l = sum_l2 = sum_xl = F(0)
        for value, weight, code in zip(x, weights, found, strict=True):
            sum_l, sum_l2, sum_xl = sum_l + weight * code, sum_l2 + weight * code * code, sum_xl + weight * code * value
        determinant = sum_w * sum_l2 - sum_l * sum_l
        if determinant > 0:
            fitted = (sum_w * sum_xl - sum_x * sum_l) / determinant
            minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
            if minimum > 0:
                fitted, minimum = sum_xl / sum_l2, F(0)
            now = error(fitted, minimum, found)
            if now < best:
                best, scale, low = now, fitted, minimum
    return scale, low


@pytest.mark.parametrize(("top", "first", "steps", "absolute"), [(15, -1.0, 20, False), (3, -0.5, 15, True)])
def test_scales_with_minima_are_those_of_a_search_weight_by_weight(
    top: int, first: float, steps: int, absolute: bool
) -> None:
    x = runs(9, 16)
    weights = np.abs(x) + F(0.01)
    with np.errstate(all="ignore"):
        found = affine(np.ascontiguousarray(x.T), np.ascontiguousarray(weights.T), top, first, 0.1, steps, absolute)
        expected = [
            affine_by_hand(list(row), list(weight), top, first, steps, absolute)
            for row, weight in zip(x, weights, strict=True)
        ]
    assert list(zip(found.scale, found.minimum, strict=True)) == expected


def test_scales_around_zero_are_those_of_a_search_weight_by_weight() -> None:
    x, top = runs(9, 16), 32
    with np.errstate(all="ignore"):
        found, _ = symmetric(np.ascontiguousarray(x.T), np.ascontiguousarray((x * x).T), top, 9)
    for row, scale in zip(x, found, strict=True):
        extreme = max(row, key=abs)
        if abs(extreme) < 1e-15:
            assert scale == 0
            continue
        kept, best = F(0), F(-1)
        for number in (0, *range(-9, 0), *range(1, 10)):
            inverse = F(-top) / extreme if not number else -(F(top) + F(0.1) * F(number)) / extreme
            sum_xl = sum_l2 = F(0)
            for value in row:
                code = F(min(max(np.rint(inverse * value), -top), top - 1))
                sum_xl, sum_l2 = sum_xl + value * value * value * code, sum_l2 + value * value * code * code
            if sum_l2 > 0 and (best < 0 or sum_xl * sum_xl > best * sum_l2):
                kept, best = sum_xl / sum_l2, sum_xl / sum_l2 * sum_xl
        assert scale == kept


def decoded(kind: Blocks, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    tensor = torch.from_numpy(weight)
    rows, columns = tensor.shape
    return kind.dequantize(kind.quantize(tensor), (rows, columns), torch.float32).numpy()


@every_type
def test_zeros_stay_zeros_and_nothing_becomes_infinite(kind: Blocks) -> None:
    x = np.repeat(runs(9, 32), 8, axis=1)
    found = decoded(kind, x)
    assert np.isfinite(found).all() and not found[1].any()
    # A scale in FP16 may be too small by one part in 2,048, and an outlier may leave its neighbours nothing.
    assert np.abs(found - x).max(axis=1)[6] <= 3 / (2 ** int(kind.name.strip("IQ")[0]) - 1)


@every_type
def test_rows_are_rounded_each_by_itself(kind: Blocks) -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 0.02, (7, 512)).astype(F))
    whole = kind.quantize(x)["data"]
    assert kind.by_rows(512) and torch.equal(whole[2:5], kind.quantize(x[2:5])["data"])
    assert whole.shape == kind.layout((7, 512), torch.float32)["data"].shape
    assert whole.shape[1] * 8 / 512 == kind.bytes * 8 / kind.size


def test_many_blocks_at_once_are_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.from_numpy(np.random.default_rng(2).normal(0, 0.02, (8, 512)).astype(F))
    whole = [Blocks(name).quantize(x)["data"] for name in TYPES]
    monkeypatch.setattr(blocks, "_AT_ONCE", 3 * 256)
    assert all(torch.equal(Blocks(name).quantize(x)["data"], found) for name, found in zip(TYPES, whole, strict=True))


@pytest.mark.parametrize(
    ("name", "columns", "taken"),
    [
        ("Q4_K", 512, "Q4_K"),
        ("Q4_K", 288, "Q5_0"),
        ("Q5_K", 96, "Q5_1"),
        ("Q6_K", 32, "Q8_0"),
        ("Q3_K", 288, "IQ4_NL"),
        ("Q2_K", 288, "IQ4_NL"),
        ("IQ4_XS", 320, "IQ4_NL"),
        ("Q4_K", 48, "F16"),
        ("Q8_0", 33, "F16"),
    ],
)
def test_rows_that_are_no_whole_blocks_take_what_llama_quantize_falls_back_to(
    name: str, columns: int, taken: str
) -> None:
    kind = Blocks(name)
    assert kind.fitting(columns).name == taken
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(0))
    size, count = GGML_QUANT_SIZES[GGMLQuantizationType[taken]]
    assert kind.quantize(x)["data"].shape == (3, columns // size * count)
    if taken == "F16":
        assert torch.equal(kind.dequantize(kind.quantize(x), (3, columns), torch.float32), x.half().float())
