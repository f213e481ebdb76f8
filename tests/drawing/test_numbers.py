"""Numbers as people read them: the digits that their errors allow, and no claim of all or none."""

import math

import pytest

from qfund.core.estimate import Estimate
from qfund.drawing import numbers


@pytest.mark.parametrize(
    ("value", "se", "unit", "expected"),
    [
        (99.0, 0.07, "", "99.00 ± 0.07"),
        (0.99021, 0.00077, "share", "99.02 ± 0.08"),
        (1.00039, 0.00011, "", "1.00039 ± 0.00011"),  # an error that begins with 1 keeps two digits
        (34.38, 0.62, "", "34.4 ± 0.6"),
        (1.13e-4, 2.1e-6, "nat", "1.13e-4 ± 0.02e-4"),
        (12_345.6, 78.0, "", "12,346 ± 78"),
        (0.5, None, "", "0.5"),
        (0.5, 0.0, "", "0.5 ± 0"),
        (0.0, 0.2, "", "0.0 ± 0.2"),
        (-0.013, 0.004, "", "-0.013 ± 0.004"),
        (float("nan"), 0.1, "", "not finite"),
        (float("inf"), None, "", "not finite"),
    ],
)
def test_value_and_error_keep_the_same_digits(value: float, se: float | None, unit: str, expected: str) -> None:
    assert numbers.estimate_text(Estimate(value, se, 10, unit)) == expected


def test_two_digits_of_error_where_a_table_has_room() -> None:
    assert numbers.estimate_text(Estimate(34.3803, 0.6203, 10, ""), digits=2) == "34.38 ± 0.62"


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.99022, "share", "99.02 %"),
        (1.0, "share", "100 %"),
        (0.999999, "share", ">99.99 %"),
        (1.00041, "×", "× 1.0004"),
        (1.13e-4, "nat", "1.13e-4 nat"),
        (34.38, "", "34.4"),
    ],
)
def test_a_number_alone_has_its_unit(value: float, unit: str, expected: str) -> None:
    assert numbers.value_text(value, unit) == expected


def test_nearly_all_is_never_called_all() -> None:
    text = numbers.value_text(1 - 1e-9, "share")
    assert not text.startswith("100")


@pytest.mark.parametrize(
    ("value", "wide", "size", "text"),
    [
        (1.00031, 0.0008, 1.0, "1.00031"),
        (98.748, 0.35, 99.0, "98.75"),
        (-0.0004, 0.02, 0.01, "0.000"),  # no negative zero
        (3.1e-6, 2.4e-6, 4.6e-6, "3.1e-6"),
        (1.2e-7, 2.4e-6, 4.6e-6, "0.1e-6"),  # with the exponent of the numbers beside it
        (12_345.6, 300.0, 12_345.6, "12,346"),
        (0.5, 0.0, 0.5, "0.5"),
        (math.inf, 1.0, 1.0, "inf"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_allows(value: float, wide: float, size: float, text: str) -> None:
    assert numbers.digits_text(value, wide, size) == text


def test_an_estimate_without_an_interval_stands_alone() -> None:
    assert numbers.interval_text("kl_mean", Estimate(0.01, 0.001, 9, "nat")) == "0.01000"
    told = numbers.interval_text("top1_agreement", Estimate(0.98, 0.01, 99, "share", 0.97, 0.99, 9))
    assert told == "98.0 (97.0 to 99.0)"


@pytest.mark.parametrize(
    ("name", "far", "text"),
    [
        ("kl_mean", 3.3e-13, "3.30e-13"),
        ("logit_sqnr", 1e-4, "80"),
        ("logit_sqnr", 0.0, "no noise"),
        ("logit_cosine", 2.33e-14, "within 0.0001 of 1"),
        ("logit_cosine", 0.002, "0.998"),
        ("perplexity_ratio", 2.38e-9, "within 0.0001 of 1"),
        ("perplexity_ratio", 0.0238, "1 ± 0.0238"),
        ("top1_agreement", 0.0, "100"),
        ("top1_agreement", 0.002, "99.8"),
        ("top1_agreement", 1e-6, "within 0.01 of 100"),
    ],
)
def test_the_noise_floor_is_told_as_the_metric_is(name: str, far: float, text: str) -> None:
    assert numbers.floor_text(name, far) == text
