"""Number formats: every bit pattern and every rounding against torch, NumPy and ml_dtypes, and exact arithmetic."""

import math
import struct
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qfund.core.errors import InvalidInput, UnknownName
from qfund.features.formats import figures as formats_figures
from qfund.features.formats import tables as formats_tables
from qfund.features.formats.request.formats import (
    CODEBOOK,
    FLOAT,
    FORMATS,
    INTEGER,
    Format,
    number_format,
    per_power_of_two,
)
from qfund.features.formats.request.numbers import Number, decimals, exact, parse, short
from qfund.features.formats.request.rounding import cast, decode, encode
from qfund.features.formats.tables import RAW, SCALED
from qfund.precisions.quantizers.codebook import NF4
from qfund.precisions.table import PRECISIONS

TORCH = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
SMALL = [row for row in FORMATS.values() if row.bits <= 16]
FLOATS = [row for row in FORMATS.values() if row.kind == FLOAT]


def number(value: Number) -> float:
    return float(value)


def equal(one: float, other: float) -> bool:
    """Zeros by their sign, and NaN with NaN."""
    return (math.isnan(one) and math.isnan(other)) or (
        one == other and math.copysign(1, one) == math.copysign(1, other)
    )


def by_library(row: Format) -> NDArray[np.float64]:
    """What every pattern of up to 16 bits stands for, as NumPy, ml_dtypes or torch read it."""
    codes = np.arange(row.codes, dtype=np.uint16 if row.bits == 16 else np.uint8)
    if row.kind == CODEBOOK:
        return np.array(NF4.values)
    if row.name in TORCH:
        signed = torch.from_numpy(codes.view(np.int16 if row.bits == 16 else np.int8).copy())
        return np.asarray(signed.view(TORCH[row.name]).double().numpy())
    return np.asarray(codes.view(row.dtype).astype(np.float64))


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_every_pattern_is_read_as_the_libraries_do(row: Format) -> None:
    for code, value in enumerate(by_library(row)):
        found = decode(row, code)
        assert equal(number(found.value), float(value)), f"{code:#x}"
        assert (found.kind in ("NaN", "infinity")) == (not math.isfinite(value))
        if row.dtype is not None and row.name != "int4":
            with np.errstate(invalid="ignore"):  # of a signalling NaN
                wide = np.array([code], np.uint16 if row.bits == 16 else np.uint8).view(row.dtype).astype(np.float64)[0]
            assert equal(float(wide), float(value))


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_every_pattern_comes_back_from_its_value(row: Format) -> None:
    for code in range(row.codes):
        found = decode(row, code)
        again = encode(row, found.value)
        assert again is not None
        if found.kind == "NaN":
            assert decode(row, again).kind == "NaN"
        else:
            assert again == code


@pytest.mark.parametrize("name", sorted(TORCH))
def test_limits_are_torchs(name: str) -> None:
    row, limits = FORMATS[name], torch.finfo(TORCH[name])
    assert row.bits == limits.bits
    assert (number(row.largest), number(row.lowest)) == (limits.max, limits.min)
    assert row.smallest_normal == Fraction(limits.smallest_normal) and row.epsilon == Fraction(limits.eps)


@pytest.mark.parametrize("name", ["fp64", "fp32", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp4_e2m1"])
def test_limits_are_those_of_ml_dtypes(name: str) -> None:
    row = FORMATS[name]
    limits: Any = ml_dtypes.finfo(row.dtype)  # type: ignore[no-untyped-call]
    assert number(row.largest) == float(limits.max) and number(row.smallest) == float(limits.smallest_subnormal)
    assert row.epsilon == Fraction(float(limits.eps))
    assert row.smallest_normal == Fraction(float(limits.smallest_normal))


@pytest.mark.parametrize(("name", "dtype"), [("int8", np.int8), ("int4", ml_dtypes.int4)])
def test_limits_of_integers(name: str, dtype: Any) -> None:
    limits: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    assert FORMATS[name].lowest == int(limits.min) and FORMATS[name].largest == int(limits.max)


def test_limits_of_tf32() -> None:
    row = FORMATS["tf32"]
    assert row.epsilon == FORMATS["fp16"].epsilon and row.smallest_normal == FORMATS["fp32"].smallest_normal
    assert row.largest == (2 - Fraction(1, 2**10)) * 2**127 and row.bits == 19


def test_rows_name_a_precision_of_the_same_width() -> None:
    for row in FORMATS.values():
        precision = PRECISIONS[row.precision]
        # TF32 is 19 bits that count in 32 that are stored; MXFP4 stores E2M1.
        assert precision.bits == row.bits or (row.name, precision.bits) == ("tf32", 32)
        assert precision.label.split()[0] == row.label.split()[0] or row.name == "fp4_e2m1"
    assert NF4.values == FORMATS["nf4"].values


def test_an_unknown_format_is_told() -> None:
    with pytest.raises(UnknownName, match="fp16"):
        number_format("fp61")


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_counts_are_those_of_all_patterns(row: Format) -> None:
    values = {number(decode(row, code).value) for code in range(row.codes)}
    finite = {value for value in values if math.isfinite(value)}
    assert row.finite == len(finite)
    positive = [math.frexp(value)[1] - 1 for value in finite if value > 0]
    assert dict(per_power_of_two(row)) == {power: positive.count(power) for power in set(positive)}
    assert max(finite) == row.largest and min(finite) == row.lowest
    assert min(value for value in finite if value > 0) == row.smallest


@pytest.mark.parametrize("row", FLOATS, ids=lambda row: row.name)
def test_counts_of_wide_formats_add_up(row: Format) -> None:
    assert 2 * sum(count for _, count in per_power_of_two(row)) + 1 == row.finite


# ── rounding ──

_SINGLES = st.one_of(
    st.floats(width=32),
    st.floats(-1, 1, width=32),
    st.floats(-512, 512, width=32),
    st.floats(-(2.0**17), 2.0**17, width=32),
)


def halfway(row: Format) -> NDArray[np.float32]:
    """Every value of a format of 8 bits or fewer, what is exactly between two, and float32's neighbours of those."""
    values = np.unique([number(decode(row, code).value) for code in range(row.codes)])
    values = values[np.isfinite(values)].astype(np.float32)
    middles = (values[1:] + values[:-1]) / np.float32(2)
    found = np.concatenate([values, middles, [values[-1] * np.float32(1.07), values[0] * np.float32(1.07)]])
    around = [np.nextafter(found, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate([found, *around]).astype(np.float32)


@pytest.mark.parametrize("row", [row for row in SMALL if row.bits <= 8], ids=lambda row: row.name)
def test_ties_and_their_neighbors(row: Format) -> None:
    values = halfway(row)
    with np.errstate(over="ignore"):
        found = cast(row, values)
    for value, became in zip(values, found, strict=True):
        code = encode(row, float(value))
        assert code is not None and number(decode(row, code).value) == became
        if row.kind == INTEGER:
            assert became == min(max(round(float(value)), row.lowest), row.largest)
        elif row.name == "fp4_e2m1":
            assert became == float(np.float32(value).astype(ml_dtypes.float4_e2m1fn))
        elif row.kind == FLOAT:
            assert became == float(torch.tensor(value).to(TORCH[row.name]).double())


@settings(deadline=None, max_examples=500)
@given(value=_SINGLES)
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2"])
def test_rounding_is_torchs(name: str, value: float) -> None:
    row = FORMATS[name]
    expected = float(torch.tensor(value, dtype=torch.float32).to(TORCH[name]).double())
    code = encode(row, value)
    assert code is not None and equal(number(decode(row, code).value), expected)
    assert equal(float(cast(row, np.array([value], np.float32))[0]), expected)


@settings(deadline=None, max_examples=300)
@given(value=st.floats())
def test_doubles_round_once(value: float) -> None:
    for name, dtype in (("fp64", np.float64), ("fp32", np.float32), ("fp16", np.float16)):
        with np.errstate(over="ignore"):
            expected = float(np.float64(value).astype(dtype))
        code = encode(FORMATS[name], value)
        assert code is not None and equal(number(decode(FORMATS[name], code).value), expected)
    if not math.isnan(value):
        assert encode(FORMATS["fp64"], value) == struct.unpack("<Q", struct.pack("<d", value))[0]


@settings(deadline=None, max_examples=300)
@given(value=st.floats(width=32))
def test_tf32_by_an_independent_road(value: float) -> None:
    row = FORMATS["tf32"]
    found = float(cast(row, np.array([value], np.float32))[0])
    code = encode(row, value)
    assert code is not None and equal(number(decode(row, code).value), found)
    if not math.isfinite(value) or not value:
        assert equal(found, value)
        return
    # In doubles: the significand as a whole number of steps, rounded half to even by Python.
    _, exponent = math.frexp(value)
    step = 2.0 ** (max(exponent, -125) - 11)
    expected = round(value / step) * step
    assert found == (math.copysign(math.inf, value) if abs(expected) >= 2.0**128 else expected)
    assert math.isinf(found) or int(np.float32(found).view(np.uint32)) & 0x1FFF == 0


@settings(deadline=None)
@given(value=st.floats(-2, 2, width=32))
def test_nf4_is_the_quantizers(value: float) -> None:
    row = FORMATS["nf4"]
    expected = NF4.values[int(NF4._nearest(torch.tensor([value]))[0])]
    assert cast(row, np.array([value], np.float32))[0] == np.float32(expected)
    code = encode(row, value)
    assert code is not None and row.values[code] == expected


@settings(deadline=None, max_examples=200)
@given(over=st.integers(-(10**30), 10**30), under=st.integers(1, 10**30))
def test_the_nearest_of_all_values_is_found(over: int, under: int) -> None:
    value = Fraction(over, under)
    for name in ("fp8_e4m3", "fp4_e2m1", "int4", "int8"):
        row = FORMATS[name]
        all_of = [found for code in range(row.codes) if isinstance(found := decode(row, code).value, Fraction)]
        code = encode(row, value)
        assert code is not None
        found = Fraction(decode(row, code).value)
        assert abs(found - value) == min(abs(other - value) for other in all_of)


# ── the course's numbers ──


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("fp64", "0.333333333333333314829616256247390992939472198486328125000000"),
        ("fp32", "0.333333343267440795898437500000"),
        ("fp16", "0.333251953125000000000000000000"),
        ("bf16", "0.333984375000000000000000000000"),
    ],
)
def test_a_third_to_sixty_decimals(name: str, begins: str) -> None:
    code = encode(FORMATS[name], parse("1/3"))
    assert code is not None
    value = decode(FORMATS[name], code).value
    assert decimals(value).startswith(begins) and len(decimals(value)) == 62
    assert decimals(value) == f"{torch.tensor(1 / 3, dtype=torch.float64).to(TORCH[name]).item():.60f}"


def test_66246_is_too_large_for_fp16() -> None:
    frame = formats_tables.of_number(parse("66246")).set_index("name")
    assert frame.loc["fp16", "value"] == "inf" and frame.loc["fp16", "happened"] == "too large: infinity"
    assert torch.tensor(66246.0).half().isinf()
    assert frame.loc["bf16", "value"] == "66048" and frame.loc["fp8_e4m3", "happened"] == "too large: held at 448"
    assert frame.loc["fp32", "happened"] == "exact" and frame.loc["fp32", "error"] == 0


# ── typed numbers ──


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("66246", 66246),
        (" -0.1 ", Fraction(-1, 10)),
        ("−2", -2),
        ("1e-8", Fraction(1, 10**8)),
        ("1/3", Fraction(1, 3)),
        ("-1 / 3", Fraction(-1, 3)),
        ("2^-24", Fraction(1, 2**24)),
        ("2**10", 1024),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("1_000", 1000),
        ("1e400", 10**400),
        ("Inf", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Any) -> None:
    assert parse(text) == value


def test_a_negative_zero_stays_one() -> None:
    assert str(parse("-0.0")) == "-0.0" and encode(FORMATS["fp16"], parse("-0")) == 0x8000
    assert math.isnan(float(parse("nan")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No number is typed"),
        ("abc", "'abc' is no number"),
        ("1,5", "'1,5' is no number"),
        ("1/0", "divides by zero"),
        ("1/2/3", "is no number"),
        (".", "is no number"),
        ("e5", "is no number"),
        ("1e99999", "too far out"),
        ("1e-999999999999", "too far out"),
        ("2^5001", "too far out"),
        ("9" * 121, "121 characters"),
        ("0x10", "is no number"),
        ("١", "is no number"),
    ],
)
def test_what_is_no_number_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert said in caught.value.message and caught.value.remedy


@settings(deadline=None)
@given(text=st.text(alphabet="0123456789.e-+/^*infa ", max_size=20))
def test_any_text_gives_a_number_or_a_message(text: str) -> None:
    try:
        value = parse(text)
    except InvalidInput:
        return
    for row in FORMATS.values():
        encode(row, value)
    assert formats_tables.digits(value) and len(formats_tables.of_number(value)) == len(FORMATS)


@settings(deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_decimals_are_those_of_python(value: float) -> None:
    assert decimals(value, 60).replace("−", "-") == f"{value:.60f}"
    assert float(exact(value, 800).replace("−", "-")) == value
    assert float(short(Fraction(value), 17).replace("−", "-")) == value


def test_long_expansions_say_that_they_go_on() -> None:
    assert exact(FORMATS["fp64"].smallest, 10) == "4.940656458…e−324"
    assert exact(Fraction(1, 3), 5) == "0.33333…"
    assert exact(Fraction(65504)) == "65504" and exact(Fraction(10**30), 40) == "1e+30"
    assert len(exact(FORMATS["fp64"].smallest, 800)) == 751 + len(".e−324")


def test_digits_stand_under_each_other() -> None:
    lines = formats_tables.digits(parse("66246.5")).splitlines()
    assert len(lines) == 1 + len(FORMATS)
    assert len({line.index(".") for line in lines if "." in line.split()[-1]}) == 1
    assert lines[0].split() == ["exactly", "66246.5"], "zeros at the end of every line are left out"
    assert formats_tables.digits(parse("1e-300")).splitlines()[0].endswith("1e−300")
    assert "nan" in formats_tables.digits(math.nan) and "–" in formats_tables.digits(math.nan)


# ── real weights ──


def weights() -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32) * np.float32(0.05)


@pytest.mark.parametrize("scaling", [RAW, SCALED])
def test_where_weights_fall_by_another_road(scaling: str) -> None:
    found = weights()
    found[0, :4] = [0, 3e-5, 7e4, -1e-9]
    frame = formats_tables.of_weights(found, scaling).set_index("name")
    for name, dtype in TORCH.items():
        scale = 1.0
        tensor = torch.from_numpy(found)
        if scaling == SCALED and FORMATS[name].bits <= 8:
            scale = float(np.float32(7e4 / torch.finfo(dtype).max))
            tensor = tensor / torch.tensor(scale, dtype=torch.float32)
        back = tensor.to(dtype).double() * scale
        there = torch.from_numpy(found) != 0
        kept = there & back.isfinite()
        exactly = torch.from_numpy(found).double()
        error = ((back - exactly).abs() / exactly.abs())[kept].mean().item()
        assert frame.loc[name, "error"] == pytest.approx(100 * error, rel=1e-9)
        assert frame.loc[name, "zero"] == pytest.approx(100 * (there & (back == 0)).double().mean().item())
    over = frame["overflow"]
    share = 100 / found.size
    expected = {RAW: {"fp16", "fp8_e4m3", "fp8_e5m2", "fp4_e2m1", "nf4", "int8", "int4"}, SCALED: {"fp16"}}[scaling]
    assert {name for name, value in over.items() if value} == expected
    assert all(over[name] == pytest.approx(share) for name in expected)


@pytest.mark.parametrize("scaling", [RAW, SCALED])
def test_large_matrices_are_counted_piece_by_piece(scaling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = formats_tables.of_weights(weights(), scaling)
    monkeypatch.setattr(formats_tables, "_AT_ONCE", 1000)
    pieces = formats_tables.of_weights(weights(), scaling)
    numbers = ["overflow", "zero", "subnormal", "error", "used", "scale"]
    np.testing.assert_allclose(pieces[numbers].to_numpy(float), whole[numbers].to_numpy(float), rtol=1e-12)


def test_subnormal_weights_are_counted() -> None:
    found = np.array([[1, 2.0**-15, 2.0**-24, 2.0**-26]], np.float32)
    frame = formats_tables.of_weights(found, RAW).set_index("name")
    assert frame.loc["fp16", ["subnormal", "zero", "overflow"]].tolist() == [50, 25, 0]
    assert frame.loc["bf16", ["subnormal", "zero", "error"]].tolist() == [0, 0, 0]
    assert math.isnan(frame.loc["int8", "subnormal"])


@pytest.mark.parametrize("found", [np.zeros((3, 3), np.float32), np.full((1, 1), 1e-45, np.float32)])
@pytest.mark.parametrize("scaling", [RAW, SCALED])
def test_odd_weights_give_numbers(found: NDArray[np.float32], scaling: str) -> None:
    frame = formats_tables.of_weights(found, scaling)
    assert np.isfinite(frame[["overflow", "zero", "error"]].to_numpy()).all()
    sizes = formats_tables.sizes(found)
    formats_figures.where(sizes, formats_tables.spans(FORMATS, found, scaling))


def test_spans_and_sizes() -> None:
    found = weights()
    sizes = formats_tables.sizes(found)
    assert sizes["share"].sum() == pytest.approx(100)
    spans = formats_tables.spans(FORMATS, found, SCALED).set_index("name")
    largest = math.log2(np.abs(found).max())
    assert spans.loc["fp8_e4m3", "largest"] == pytest.approx(largest, abs=1e-6)
    assert spans.loc["fp16", "largest"] == pytest.approx(math.log2(65504))
    raw = formats_tables.spans(FORMATS, found, RAW).set_index("name")
    assert raw.loc["fp16", ["smallest", "normal"]].tolist() == [-24, -14]
    assert formats_figures.where(sizes, spans.reset_index()) == formats_figures.where(sizes, spans.reset_index())


def test_the_chart_of_values_is_as_wide_as_the_format() -> None:
    frame = formats_tables.per_power_of_two()
    close, wide = (formats_figures.per_power_of_two(frame, name) for name in ("fp8_e4m3", "bf16"))
    assert close.layout.xaxis.range[0] > -30 and wide.layout.xaxis.range[0] < -140
    assert all(len(trace.x) < 100 for trace in wide.data) and len(wide.data) == len(FORMATS)
    ranges = formats_tables.ranges().set_index("name")
    assert ranges.loc["fp16", ["largest", "normal", "smallest"]].tolist() == ["65504", "6.10352e−5", "5.96046e−8"]
