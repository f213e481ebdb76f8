"""The linear quantiser of the web process: torchao's values bit for bit, the course's numbers, and odd matrices."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, dequantize_affine, quantize_affine

from qfund.core.errors import InvalidInput
from qfund.features.quantizer import words
from qfund.features.quantizer.request import linear, matrices
from qfund.features.quantizer.request.linear import (
    BITS,
    CONVENTIONS,
    GRANULARITIES,
    Floats,
    Parameters,
    Scheme,
    checked,
    choose,
    damage,
    dequantize,
    pack,
    quantize,
    representable,
    stored_bytes,
    unsigned,
)
from qfund.features.quantizer.request.matrices import COURSE
from qfund.precisions.quantizers import packing
from qfund.precisions.quantizers.integer import Integer

#: From subnormal to where squares overflow, many equal, many of either sign.
_VALUES = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, -0.0, 2.0**-133, 2.0**-23, 0.5, -0.5, 1.0, 127.5, -128.0]),
)
_SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 5, 32, 64, 96, 128, 256]))
_MATRICES = _SHAPES.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=_VALUES))
_SCHEMES = st.builds(
    Scheme, bits=st.sampled_from(BITS), symmetric=st.booleans(), granularity=st.sampled_from(sorted(GRANULARITIES))
)


def all_of(weight: Floats, scheme: Scheme) -> tuple[Parameters, NDArray[np.int8], Floats]:
    used = choose(weight, scheme)
    codes, _ = quantize(weight, used, scheme)
    return used, codes, dequantize(codes, used, scheme)


def same(ours: NDArray[Any], theirs: torch.Tensor) -> None:
    np.testing.assert_array_equal(ours.astype(np.float64), theirs.double().numpy().reshape(ours.shape))


@settings(deadline=None, max_examples=300)
@given(weight=_MATRICES, scheme=_SCHEMES)
def test_every_bit_is_torchaos(weight: Floats, scheme: Scheme) -> None:
    rows, columns = weight.shape
    size = {"tensor": columns, "channel": columns}.get(scheme.granularity, GRANULARITIES[scheme.granularity])
    if columns % (size or 1) or (columns == 1 and scheme.granularity != "tensor"):
        return  # torchao refuses it, or takes blocks of 1 × 1 for no blocks
    tensor = torch.from_numpy(weight)
    block = (rows if scheme.granularity == "tensor" else 1, size)
    mapping = MappingType.SYMMETRIC if scheme.symmetric else MappingType.ASYMMETRIC
    ends = (scheme.q_min, scheme.q_max)
    scale, zero_point = choose_qparams_affine(
        tensor, mapping, block, torch.int8, *ends, eps=torch.finfo(torch.float32).eps
    )
    codes = quantize_affine(tensor, block, scale, zero_point, torch.int8, *ends)
    values = dequantize_affine(codes, block, scale, zero_point, torch.int8, *ends)
    used, found, back = all_of(weight, scheme)
    same(used.scale, scale)
    same(used.zero_point, zero_point)
    same(found, codes)
    same(back, values)


@settings(deadline=None, max_examples=150)
@given(weight=_MATRICES, bits=st.sampled_from(BITS), symmetric=st.booleans(), per=st.sampled_from(["channel", "g32"]))
def test_it_is_the_quantizer_that_models_are_measured_with(
    weight: Floats, bits: int, symmetric: bool, per: str
) -> None:
    scheme, model = Scheme(bits, symmetric, per), Integer(bits, GRANULARITIES[per], symmetric, fp32_scale=True)
    stored = model.quantize(torch.from_numpy(weight))
    _, codes, values = all_of(weight, scheme)
    same(values, model.dequantize(stored, weight.shape, torch.float32))
    data = codes.view(np.uint8) if bits == 8 else pack(unsigned(codes, scheme), bits)
    np.testing.assert_array_equal(data, stored["data"].numpy().view(np.uint8))
    size = stored_bytes((weight.shape[0], weight.shape[1]), scheme)
    assert size.codes == stored["data"].nbytes and size.scales == stored["scale"].nbytes
    assert size.zero_points == (0 if symmetric else stored["zero_point"].nbytes)


@settings(deadline=None)
@given(weight=_MATRICES, scheme=_SCHEMES, scale=st.floats(1e-30, 1e30), zero_point=st.integers(-128, 127))
def test_a_chosen_scale_and_zero_point_are_torchaos_too(
    weight: Floats, scheme: Scheme, scale: float, zero_point: int
) -> None:
    scheme = replace(scheme, granularity="tensor", symmetric=False)
    zero_point = max(scheme.q_min, min(scheme.q_max, zero_point))
    used = linear.checked_parameters(scale, zero_point, scheme)
    codes, clipped = quantize(weight, used, scheme)
    ends, block = (scheme.q_min, scheme.q_max), tuple(weight.shape)
    theirs = (torch.tensor([scale], dtype=torch.float32), torch.tensor([zero_point], dtype=torch.int32))
    expected = quantize_affine(torch.from_numpy(weight), block, *theirs, torch.int8, *ends)
    same(codes, expected)
    same(dequantize(codes, used, scheme), dequantize_affine(expected, block, *theirs, torch.int8, *ends))
    assert clipped <= np.count_nonzero((codes == scheme.q_min) | (codes == scheme.q_max))


# ── the course's numbers ──


def by_hand(weight: Floats, scale: float, zero_point: int) -> tuple[NDArray[np.float64], float]:
    """Codes and mean squared error as the course's notebook makes them, in torch."""
    tensor = torch.from_numpy(weight)
    codes = torch.clamp(torch.round(tensor / scale + zero_point), -128, 127).to(torch.int8)
    back = scale * (codes.float() - zero_point)
    return codes.double().numpy(), float((back - tensor).square().mean())


def test_the_courses_first_try() -> None:
    scheme = Scheme(convention="course")
    used = linear.checked_parameters(matrices.COURSE_SCALE, matrices.COURSE_ZERO_POINT, scheme)
    codes, clipped = quantize(COURSE, used, scheme)
    values = dequantize(codes, used, scheme)
    expected, error = by_hand(COURSE, 3.5, -70)
    np.testing.assert_array_equal(codes, expected)
    assert codes.tolist() == [[-15, -74, 127], [-44, 14, -123], [-70, 126, 0]]
    assert clipped == 1  # 728.6 would be code 138
    found = damage(COURSE, values, clipped)
    assert f"{found.mse:.2f}" == "170.88" and math.isclose(found.mse, error, rel_tol=1e-6)
    assert found.max_error == pytest.approx(728.6 - 3.5 * 197, rel=1e-6)


@pytest.mark.parametrize("convention", sorted(CONVENTIONS))
def test_the_courses_rule(convention: str) -> None:
    used, codes, values = all_of(COURSE, Scheme(convention=convention))
    assert f"{used.scale[0, 0]:.2f}" == "3.58" and used.zero_point.tolist() == [[-77]]
    assert f"{damage(COURSE, values, 0).mse:.2f}" == "1.57"
    assert used.scale[0, 0] == np.float32((float(np.float32(728.6)) + 184) / 255)
    assert codes.tolist() == [[-23, -81, 127], [-51, 6, -128], [-77, 114, -8]]


def test_symmetric_scales_of_both_conventions() -> None:
    course = choose(COURSE, Scheme(symmetric=True, convention="course"))
    torchaos = choose(COURSE, Scheme(symmetric=True))
    assert course.scale[0, 0] == np.float32(float(np.float32(728.6)) / 127)
    assert torchaos.scale[0, 0] == np.float32(728.6) / np.float32(127.5)
    codes, clipped = quantize(COURSE, torchaos, Scheme(symmetric=True))
    assert codes[0, 2] == 127 and clipped == 1, "the largest weight is half a step beyond the last code"
    assert quantize(COURSE, course, Scheme(symmetric=True, convention="course"))[1] == 0


@settings(deadline=None)
@given(weight=_MATRICES, symmetric=st.booleans())
def test_the_courses_notebook(weight: Floats, symmetric: bool) -> None:
    low, high = float(weight.min()), float(weight.max())
    if symmetric:
        scale, zero_point = max(-low, high) / 127, 0
    else:
        scale = (high - low) / 255
        zero_point = max(-128, min(127, round(-128 - low / scale))) if scale else 0
    if scale < 1e-6:
        return  # the notebook divides by zero, or by what rounds to it
    scheme = Scheme(symmetric=symmetric, convention="course")
    used, codes, _ = all_of(weight, scheme)
    assert used.zero_point[0, 0] == zero_point and used.scale[0, 0] == np.float32(scale)
    np.testing.assert_array_equal(codes, by_hand(weight, scale, zero_point)[0])


def test_packing() -> None:
    assert pack(np.array([[1, 0, 3, 2]], np.uint8), 2).tolist() == [[177]]
    assert pack(np.array([[10, 7, 8]], np.uint8), 4).tolist() == [[0x7A, 0x08]]


@settings(deadline=None)
@given(data=st.data(), bits=st.sampled_from(BITS))
def test_packing_is_that_of_models(data: st.DataObject, bits: int) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 19)))
    codes = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1)))
    np.testing.assert_array_equal(pack(codes, bits), packing.pack(torch.from_numpy(codes), bits).numpy())


# ── what must hold of any matrix ──


@settings(deadline=None)
@given(weight=_MATRICES, scheme=_SCHEMES, convention=st.sampled_from(sorted(CONVENTIONS)))
def test_every_value_is_one_of_the_grid(weight: Floats, scheme: Scheme, convention: str) -> None:
    scheme = replace(scheme, convention=convention)
    used, codes, values = all_of(weight, scheme)
    rows, columns = weight.shape
    for row, column in {(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)}:
        grid = representable(used, scheme, *linear.scale_index(row, column, columns, scheme))
        assert len(grid) == 2**scheme.bits and values[row, column] == grid[int(codes[row, column]) - scheme.q_min]
    if convention == "torchao":
        step = used.scale if used.scale.shape[1] == 1 else np.repeat(used.scale, scheme.size(columns), 1)[:, :columns]
        # Half a step; a symmetric scale and a rounded zero-point may each cost half a step more at an end.
        assert (np.abs(values.astype(np.float64) - weight) <= 1.001 * step).all()


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_matrix_of_zeros_stays_zero(granularity: str, symmetric: bool) -> None:
    weight = np.zeros((3, 40), np.float32)
    scheme = Scheme(4, symmetric, granularity)
    used, _, values = all_of(weight, scheme)
    assert not values.any() and (used.scale == 2**-23).all()
    found = damage(weight, values, 0)
    assert found.sqnr is None and found.mse == 0
    assert any("zero, which every scale holds exactly" in note for note in words.notes(weight, used, scheme))


def test_damage_of_a_large_matrix_is_summed_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(4).standard_normal((50, 30)).astype(np.float32)
    values = all_of(weight, Scheme(4))[2]
    whole = damage(weight, values, 3)
    monkeypatch.setattr(linear, "_AT_ONCE", 100)
    pieces = damage(weight, values, 3)
    error = values.astype(np.float64) - weight
    assert pieces.max_error == whole.max_error == np.abs(error).max()
    assert pieces.mse == pytest.approx(whole.mse) == pytest.approx(np.mean(error**2))
    sqnr = 10 * math.log10((weight.astype(np.float64) ** 2).sum() / (error**2).sum())
    assert pieces.sqnr == pytest.approx(sqnr) and whole.sqnr == pytest.approx(sqnr)


def test_one_value_alone() -> None:
    weight = np.array([[5.0]], np.float32)
    used, _, values = all_of(weight, Scheme())
    assert values[0, 0] == pytest.approx(5, rel=1e-6)
    assert words.notes(weight, used, Scheme()) == ["Every weight here is 5."]
    course = Scheme(convention="course")
    used, _, values = all_of(weight, course)
    assert np.isfinite(values).all()
    said = " ".join(words.notes(weight, used, course))
    assert "the range is empty" in said and "The matrix has one value alone" in said
    assert damage(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), 0).sqnr == math.inf


def test_a_range_without_zero_is_told() -> None:
    weight = np.array([[5, 6], [-1, 1]], np.float32)
    scheme = Scheme(granularity="channel", convention="course")
    assert "1 row has no zero between" in " ".join(words.notes(weight, choose(weight, scheme), scheme))
    assert quantize(weight, choose(weight, scheme), scheme)[1] > 0
    assert not words.notes(weight, choose(weight, Scheme()), Scheme())


def test_a_group_that_does_not_divide_is_told_and_counted() -> None:
    weight = np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100)
    scheme = Scheme(4, granularity="g32")
    used, codes, _ = all_of(weight, scheme)
    assert used.scale.shape == (3, 4)
    np.testing.assert_array_equal(codes[:, 96:], all_of(weight[:, 96:].copy(), scheme)[1])
    [note] = words.notes(weight, used, scheme)
    assert "100 columns are no multiple of 32: the last group of every row has 4" in note and "torchao refuses" in note
    assert stored_bytes((3, 100), scheme) == linear.Bytes(3 * 50, 4 * 12, 12)
    assert "a row is one group of 3" in words.notes(COURSE, choose(COURSE, scheme), scheme)[0]


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (np.array([[1, math.nan]]), "[0, 1] (row and column, from 0) is not a number"),
        (np.array([[1, 2], [-math.inf, math.nan]]), "[1, 0] (row and column, from 0) is infinite (2 values"),
        (np.array([[1e39]]), "beyond float32"),
        (np.array([[3e38, -3e38]]), "span more than float32"),
        (np.zeros((0, 3)), "0×3"),
        (np.zeros(3), "its shape is 3"),
    ],
)
def test_what_is_no_matrix_is_refused(weight: NDArray[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=r"Choose|Give|Divide") as caught:
        checked(weight)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("scale", "zero_point", "said"),
    [
        (0.0, 0, "The scale 0 is not positive"),
        (-1.0, 0, "The scale -1 is not positive"),
        (math.nan, 0, "not a number"),
        (math.inf, 0, "out of float32's range"),
        (1e-45, 0, "out of float32's range"),
        (1.0, 8, "The zero-point 8 is no 4-bit integer"),
        (1.0, -9, "from -8 to 7"),
    ],
)
def test_what_is_no_scale_is_refused(scale: float, zero_point: int, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        linear.checked_parameters(scale, zero_point, Scheme(4))
    assert said in str(caught.value)


def test_symmetric_has_no_zero_point() -> None:
    with pytest.raises(InvalidInput, match="symmetric"):
        linear.checked_parameters(1.0, 1, Scheme(symmetric=True))


# ── typed matrices ──


@pytest.mark.parametrize(
    "text", ["1 2\n3 4", "1, 2; 3, 4", "[[1, 2], [3, 4]]", " 1\t2 \n\n3 4\n", "[1,2]\n[3,4]", "1.0 2e0;3 4"]
)
def test_a_matrix_is_typed_in_many_ways(text: str) -> None:
    assert matrices.parse(text).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No number is typed"),
        ("[[]]", "No number is typed"),
        ("1 2\n3", "Row 2 has 1 number, row 1 has 2 numbers"),
        ("1 zwei", "'zwei' is no number"),
        ("1 nan", "holds NaN"),
        ("1 inf", "infinite"),
        ("1e40", "beyond float32"),
        ("1 " * 129, "1 × 129"),
        ("1 " * 10_001, "20,002 characters"),
    ],
)
def test_a_matrix_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        matrices.parse(text)
    assert said in str(caught.value) and caught.value.remedy


def test_a_typed_minus_may_be_a_real_one() -> None:
    assert matrices.parse("−1 2").tolist() == [[-1, 2]]


# ── words ──


def flat(formula: words.Formula) -> str:
    def text(token: words.Token) -> str:
        if isinstance(token, str):
            return token
        return f"({''.join(map(text, token['over']))})/({''.join(map(text, token['under']))})"

    return " ".join("".join(map(text, piece)) for piece in formula)


def formulas(scheme: Scheme, cell: tuple[int, int] = (0, 0), own: Parameters | None = None) -> list[str]:
    used = own or choose(COURSE, scheme)
    codes, _ = quantize(COURSE, used, scheme)
    values = dequantize(codes, used, scheme)
    found = words.formulas(COURSE, codes, values, used, scheme, cell, own is not None)
    return [flat(formula) for formula in found]


def test_formulas_hold_the_current_numbers() -> None:
    assert formulas(Scheme()) == [
        "s=(max(w,0)−min(w,0))/(q_max−q_min) =(728.6−(−184))/(127−(−128)) =3.5788",
        "z=clamp(q_min−round((min(w,0))/(s)),q_min,q_max) =clamp(−128−round((−184)/(3.5788)),−128,127) =−77",
        "q=clamp(round((w)/(s))+z,q_min,q_max) =clamp(round((191.6)/(3.5788))+(−77),−128,127) =−23",
        "ŵ=(q−z)·s =(−23−(−77))·3.5788 =193.26",
        "ŵ−w =193.26−191.6 =1.6564",
    ]
    course = formulas(Scheme(convention="course"))
    assert course[0].startswith("s=(maxw−minw)/(q_max−q_min)") and "round(q_min−(minw)/(s))" in course[1]
    assert "round((191.6)/(3.5788)+(−77))" in course[2]


def test_formulas_of_other_schemes() -> None:
    symmetric = formulas(Scheme(symmetric=True), (1, 2))
    assert symmetric[0] == "s=(max|w|)/((q_max−q_min)/2) =(728.6)/(127.5) =5.7145" and symmetric[1] == "z = 0"
    assert symmetric[3].startswith("ŵ=q·s =(−32)·5.7145")
    assert "(728.6)/(127)" in formulas(Scheme(symmetric=True, convention="course"))[0]
    row = formulas(Scheme(granularity="channel"), (2, 1))
    assert "(684.6−0)/(127−(−128))" in row[0], "the range is that of the row"
    own = formulas(Scheme(), own=linear.checked_parameters(3.5, -70, Scheme()))
    assert own[:2] == ["s=3.5 (yours)", "z=−70 (yours)"] and "728.6" not in " ".join(own)


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0"), (-0.5, "−0.5"), (1.5e-7, "1.5·10⁻⁷"), (170.8753, "170.88"), (1e30, "1·10³⁰")]
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert words.number(value) == said
