"""Metrics by hand, on four positions whose answers fit on paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.errors import UnknownName
from qfund.metrics import METRICS, Estimate, Positions, estimates, metric, perplexity_of

FOUR = Positions(
    mean_abs=np.array([1.0, 2.0, 3.0, 2.0]),
    max_abs=np.array([4.0, 8.0, 5.0, 6.0]),
    kl=np.array([0.0, 0.1, 0.2, 0.1]),
    same_top1=np.array([1.0, 1.0, 0.0, 1.0]),
    nll_reference=np.array([1.0, 2.0, 3.0]),
    nll_candidate=np.array([1.5, 2.0, 3.1]),
)


def test_by_hand() -> None:
    found = estimates(FOUR)
    # Σ(x − 2)² = 2, /3, /4: the standard error of the mean of 1, 2, 3, 2.
    mean = found["mean_abs_logit_diff"]
    assert (mean.value, mean.n, mean.unit) == (2.0, 4, "logit")
    assert mean.se == pytest.approx(math.sqrt(2 / 3 / 4))
    assert found["max_abs_logit_diff"] == Estimate(8.0, None, 4, "logit")
    assert found["kl_mean"].value == pytest.approx(0.1)
    assert found["kl_p99"].value == pytest.approx(0.2 * 0.97 + 0.1 * 0.03)  # 0.99 · 3 = 2.97: between 3rd and 4th
    assert found["kl_max"].value == 0.2
    # Binomial: p(1 − p)/(n − 1) = 0.75 · 0.25 / 3.
    assert (found["top1_agreement"].value, found["top1_agreement"].unit) == (0.75, "share")
    assert found["top1_agreement"].se == pytest.approx(0.25)
    assert found["perplexity"].value == pytest.approx(math.exp(2.2))
    assert found["perplexity"].n == 3
    assert found["perplexity_ratio"].value == pytest.approx(math.exp(0.2))
    # Differences 0.5, 0, 0.1 have variance 0.07; its error is that of the ratio over the ratio.
    assert found["perplexity_ratio"].se == pytest.approx(math.exp(0.2) * math.sqrt(0.07 / 3))


def test_the_ratios_error_is_the_formula_with_covariance() -> None:
    random = np.random.default_rng(0)
    p, q = random.normal(3, 1, 500), random.normal(3, 1, 500)
    positions = Positions(np.ones(500), np.ones(500), nll_reference=p, nll_candidate=q)
    found = estimates(positions)["perplexity_ratio"]
    covariance = np.cov(p, q) / 500
    sigma = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.se == pytest.approx(found.value * sigma, rel=1e-12)
    assert found.value == pytest.approx(perplexity_of(q).value / perplexity_of(p).value, rel=1e-12)


def test_one_position_has_no_error() -> None:
    one = Positions(np.array([1.0]), np.array([1.0]), kl=np.array([0.5]), same_top1=np.array([1.0]))
    assert {name: found.se for name, found in estimates(one).items()} == dict.fromkeys(
        ("mean_abs_logit_diff", "max_abs_logit_diff", "kl_mean", "kl_p99", "kl_max", "top1_agreement"), None
    )


def test_a_task_reports_only_what_it_has() -> None:
    hidden = Positions(hidden_mean_abs=np.ones(3), hidden_max_abs=np.ones(3), hidden_cosine=np.ones(3))
    assert list(estimates(hidden)) == ["mean_abs_hidden_diff", "max_abs_hidden_diff", "hidden_cosine"]
    empty = Positions(np.ones(0), np.ones(0), kl=np.ones(0))
    assert estimates(empty) == {}


def test_a_perplexity_beyond_floats_is_not_reported() -> None:
    nll = np.array([900.0, 1000.0])
    found = estimates(Positions(nll_reference=np.ones(2), nll_candidate=nll))
    assert found == {}
    assert math.isinf(perplexity_of(nll).value)


@given(st.lists(st.floats(0, 50), min_size=2, max_size=50))
def test_a_model_against_itself_is_exactly_one(nll: list[float]) -> None:
    values = np.array(nll)
    ratio = estimates(Positions(values, values, nll_reference=values, nll_candidate=values))["perplexity_ratio"]
    assert (ratio.value, ratio.se) == (1.0, 0.0)


def test_the_error_of_the_mean_covers() -> None:
    """Of 400 samples of 200, about 95 % have the true mean within 1.96 standard errors."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        sample = random.exponential(1.0, 200)
        found = estimates(Positions(sample, sample, kl=sample))["kl_mean"]
        assert found.se is not None
        inside += abs(found.value - 1.0) < 1.96 * found.se
    assert 0.91 < inside / 400 < 0.98


def test_every_row_is_complete() -> None:
    for name, row in METRICS.items():
        assert row.name == name
        assert row.better in ("lower", "higher", "one")
        assert row.label and row.definition and row.source and row.needs
        assert set(row.needs) <= set(Positions.__dataclass_fields__)


def test_unknown() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean: kl_mean\?"):
        metric("kl_meen")
