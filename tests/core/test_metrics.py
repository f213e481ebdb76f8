"""Metrics by hand, on four positions whose answers fit on paper."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfund.core.errors import UnknownName
from qfund.core.estimate import Estimate
from qfund.core.intervals import MIN_BLOCKS
from qfund.core.metrics.estimates import CONFIDENCES, PERCENTILES, buckets, estimates, percentiles, perplexity_of
from qfund.core.metrics.positions import TOP_K, Positions, Texts
from qfund.core.metrics.table import METRICS, metric
from qfund.drawing.phrases import BETTER

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
    names = ("mean_abs_logit_diff", "max_abs_logit_diff", "kl_mean", "kl_median", "kl_p99", "kl_p999", "kl_max")
    assert {name: found.se for name, found in estimates(one).items()} == dict.fromkeys((*names, "top1_agreement"), None)


def test_a_task_reports_only_what_it_has() -> None:
    hidden = Positions(hidden_mean_abs=np.ones(3), hidden_max_abs=np.ones(3), hidden_cosine=np.ones(3))
    assert list(estimates(hidden)) == ["mean_abs_hidden_diff", "max_abs_hidden_diff", "hidden_cosine"]
    empty = Positions(np.ones(0), np.ones(0), kl=np.ones(0))
    assert estimates(empty) == {}


def test_a_perplexity_beyond_floats_is_not_reported() -> None:
    nll = np.array([900.0, 1000.0])
    found = estimates(Positions(nll_reference=np.ones(2), nll_candidate=nll))
    assert list(found) == ["nll_mean", "ln_perplexity_ratio"]
    assert found["ln_perplexity_ratio"].value == 949.0
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
        assert row.better in BETTER
        assert row.label and row.definition and row.source and row.needs
        assert set(row.needs) <= set(Positions.__dataclass_fields__)


THREE = Positions(
    kl=np.array([0.1, 0.2, 0.6]),
    kl_reverse=np.array([0.2, 0.2, 0.5]),
    logit_signal=np.array([100.0, 300.0, 600.0]),
    logit_noise=np.array([1.0, 2.0, 7.0]),
    logit_cosine=np.array([1.0, 0.5, 0.75]),
    hidden_signal=np.array([10.0, 10.0, 80.0]),
    hidden_noise=np.array([0.0, 0.0, 0.1]),
    top_agreed=np.array([10.0, 4.0, 1.0]),
    nll_reference=np.array([1.0, 2.0, 3.0]),
    nll_candidate=np.array([1.5, 2.0, 3.1]),
    delta_p=np.array([0.1, -0.3, -0.1]),
)


def test_more_by_hand() -> None:
    found = estimates(THREE)
    assert found["kl_reverse_mean"].value == pytest.approx(0.3)
    assert found["kl_reverse_max"].value == 0.5
    assert found["kl_median"].value == 0.2
    assert found["logit_sqnr"].value == pytest.approx(20)  # 1000 over 10
    assert found["hidden_sqnr"].value == pytest.approx(30)  # 100 over 0.1
    assert found["logit_cosine"].value == 0.75
    assert found["top_k_agreement"].value == pytest.approx(1 / 3)
    assert found["top_depth"].value == 5.0
    assert found["delta_p_mean"].value == pytest.approx(-0.1)
    # Squares 0.01, 0.09, 0.01 have mean 11/300 and variance 0.0064/3; σ = 0.5/RMS · σ(mean).
    rms = math.sqrt(11 / 300)
    assert found["delta_p_rms"].value == pytest.approx(rms)
    assert found["delta_p_rms"].se == pytest.approx(0.5 / rms * math.sqrt(0.0064 / 3 / 3))
    assert found["nll_mean"].value == pytest.approx(2.2)
    assert found["ln_perplexity_ratio"].value == pytest.approx(0.2)
    assert found["ln_perplexity_ratio"].se == pytest.approx(math.sqrt(0.07 / 3))
    assert found["perplexity_diff"].value == pytest.approx(math.exp(2.2) - math.exp(2))
    # Σxy/√(Σx²Σy²) of −1, 0, 1 and −0.7, −0.2, 0.9.
    assert found["nll_correlation"].value == pytest.approx(1.6 / math.sqrt(2 * 1.34))


def test_the_error_of_a_perplexity_difference_counts_covariance() -> None:
    found = estimates(THREE)["perplexity_diff"]
    q, p = THREE.nll_candidate, THREE.nll_reference
    assert q is not None and p is not None
    covariance = np.cov(q, p) / 3
    a, b = math.exp(2.2), math.exp(2.0)
    sigma = math.sqrt(a**2 * covariance[0, 0] + b**2 * covariance[1, 1] - 2 * a * b * covariance[0, 1])
    assert found.se == pytest.approx(sigma, rel=1e-12)


def test_the_error_of_an_sqnr_is_that_of_a_ratio() -> None:
    """By the delta method: of 10·log10 of a ratio of two means, checked against resampled positions."""
    random = np.random.default_rng(4)
    signal, noise = random.uniform(1, 3, 400), random.exponential(0.1, 400)
    found = estimates(Positions(logit_signal=signal, logit_noise=noise))["logit_sqnr"]
    drawn = random.integers(0, 400, (2000, 400))
    spread = (-10 * np.log10(noise[drawn].sum(1) / signal[drawn].sum(1))).std()
    assert found.se == pytest.approx(spread, rel=0.06)


def test_percentiles_by_hand() -> None:
    found = percentiles(Positions(kl=np.arange(11.0)))
    assert list(found) == ["kl"]
    assert found["kl"] == pytest.approx([10 * share for share in PERCENTILES])


def _many(seed: int, chunks: int = 10, length: int = 20) -> Positions:
    """Positions of every kind, the last of each chunk without a correct token."""
    random = np.random.default_rng(seed)
    n = chunks * length
    ids = np.repeat(np.arange(float(chunks)), length)
    scored = np.arange(n) % length < length - 1
    vectors = {row.name: random.uniform(0.1, 1, n) for row in fields(Positions) if not row.name.startswith("pooled")}
    vectors |= {"chunk": ids, "same_top1": (random.random(n) < 0.9).astype(float)}
    vectors["top_agreed"] = random.integers(0, TOP_K + 1, n).astype(float)
    vectors["confidence_scored"], vectors["chunk_scored"] = vectors["confidence"], ids
    for name in ("nll_reference", "nll_candidate", "delta_p", "confidence_scored", "chunk_scored"):
        vectors[name] = vectors[name][scored]
    return Positions(**vectors, pooled_max_abs=random.random(chunks), pooled_cosine=random.random(chunks))


def _taken(positions: Positions, order: list[int]) -> Positions:
    """The same chunks in another order."""

    def at(row: str) -> np.ndarray:
        values = getattr(positions, row)
        if row.startswith("pooled"):
            return np.array(values[order])
        ids = positions.chunk if len(values) == len(positions.chunk) else positions.chunk_scored  # type: ignore[arg-type]
        assert ids is not None
        if row.startswith("chunk"):
            return np.concatenate([np.full((ids == chunk).sum(), float(i)) for i, chunk in enumerate(order)])
        return np.concatenate([values[ids == chunk] for chunk in order])

    return Positions(**{row.name: at(row.name) for row in fields(Positions)})


def test_every_metric_is_given_and_every_mean_has_an_interval() -> None:
    found = estimates(_many(0))
    assert list(found) == list(METRICS)
    for name, estimate in found.items():
        if estimate.se is None:
            assert (estimate.low, estimate.high, estimate.blocks) == (None, None, 0), name
        else:
            assert estimate.low is not None and estimate.high is not None
            assert estimate.low < estimate.value < estimate.high, name
            assert estimate.blocks == 10


def test_too_few_chunks_give_no_interval() -> None:
    for chunks in (1, MIN_BLOCKS - 1):
        assert {found.low for found in estimates(_many(0, chunks)).values()} == {None}
    assert estimates(_many(0, MIN_BLOCKS))["kl_mean"].low is not None


@given(st.integers(0, 1000), st.permutations(range(10)))
@settings(max_examples=20)
def test_the_order_of_chunks_does_not_matter(seed: int, order: list[int]) -> None:
    positions = _many(seed)
    found, other = estimates(positions), estimates(_taken(positions, order))
    for name, estimate in found.items():
        for field in ("value", "se", "low", "high"):
            one, two = getattr(estimate, field), getattr(other[name], field)
            assert (one is None and two is None) or two == pytest.approx(one, rel=1e-9), (name, field)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_a_model_against_itself_is_perfect(seed: int) -> None:
    positions = _many(seed)
    zero = dict.fromkeys(("mean_abs", "max_abs", "kl", "kl_reverse", "logit_noise", "hidden_noise"), 0.0)
    zero |= dict.fromkeys(("hidden_mean_abs", "hidden_max_abs", "delta_p", "pooled_max_abs"), 0.0)
    one = dict.fromkeys(("same_top1", "logit_cosine", "hidden_cosine", "pooled_cosine"), 1.0)
    same = {name: np.full_like(getattr(positions, name), value) for name, value in (zero | one).items()}
    same["top_agreed"] = np.full_like(positions.kl, float(TOP_K))
    found = estimates(replace(positions, **same, nll_candidate=positions.nll_reference))
    assert set(METRICS) - set(found) == {"logit_sqnr", "hidden_sqnr"}  # infinite
    for name, estimate in found.items():
        perfect = METRICS[name].perfect
        if perfect is None:
            continue
        assert estimate.value == perfect, name
        assert METRICS[name].damage(estimate.value) == 0
        if estimate.unit == "share":  # none of so many is no proof of never
            assert estimate.low is not None and 0.9 < estimate.low < 1
        elif estimate.se is not None:
            assert (estimate.low, estimate.high) == (perfect, perfect), name


def test_damage_of_an_sqnr_is_the_share_of_noise() -> None:
    assert METRICS["logit_sqnr"].damage(20) == pytest.approx(0.1)
    assert METRICS["perplexity"].damage(20) is None
    assert METRICS["perplexity_ratio"].damage(0.9) == pytest.approx(0.1)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_buckets_part_the_positions(seed: int) -> None:
    positions = _many(seed)
    found = buckets(positions)
    assert [bucket.low for bucket in found] == list(CONFIDENCES[:-1])
    assert [bucket.high for bucket in found] == list(CONFIDENCES[1:])
    whole = estimates(positions)
    for name in ("kl_mean", "top1_agreement"):
        parts = [bucket.estimates[name] for bucket in found if name in bucket.estimates]
        assert sum(part.n for part in parts) == whole[name].n
        assert sum(part.n * part.value for part in parts) == pytest.approx(whole[name].n * whole[name].value)
    parts = [part for bucket in found if (part := bucket.estimates.get("perplexity_ratio"))]
    assert sum(part.n for part in parts) == whole["perplexity_ratio"].n
    logs = sum(part.n * math.log(part.value) for part in parts)
    assert logs == pytest.approx(whole["perplexity_ratio"].n * math.log(whole["perplexity_ratio"].value))


def test_edges_of_buckets_and_their_blocks() -> None:
    confidence = np.array([0.2499, 0.25, 0.5, 0.75, 0.95, 1.0, 1.0 + 1e-15])
    found = buckets(Positions(kl=confidence, confidence=confidence, chunk=np.arange(7.0)))
    assert [bucket.estimates["kl_mean"].n for bucket in found] == [1, 1, 1, 1, 3]
    assert buckets(Positions(kl=np.ones(2))) == ()
    empty = buckets(Positions(kl=np.ones(2), confidence=np.ones(2), nll_candidate=np.ones(1), nll_reference=np.ones(1)))
    assert [len(bucket.estimates) for bucket in empty] == [0, 0, 0, 0, 1]  # where tokens stand is not known


def test_several_texts_count_the_same() -> None:
    """Two texts, one three times as long: the mean of their means, by hand."""
    kl = np.array([1.0, 1.0, 1.0, 3.0])
    nll = np.array([1.0, 1.0, 1.0, 2.0])
    ids = np.array([0.0, 1.0, 1.0, 2.0])
    both = Positions(kl=kl, nll_candidate=nll, nll_reference=np.ones(4), chunk=ids, chunk_scored=ids)
    found = estimates(both, texts=(0, 0, 1))
    assert found["kl_mean"].value == 2.0
    assert found["perplexity"].value == pytest.approx(math.exp(1.5))
    assert found["perplexity_ratio"].value == pytest.approx(math.exp(0.5))
    assert found["perplexity_diff"].value == pytest.approx(math.exp(1.5) - math.exp(1))
    assert found["kl_max"].value == 3.0
    assert found["kl_mean"].se is None  # one position says nothing about its text
    assert estimates(both)["kl_mean"].value == 1.5


def test_many_texts_are_the_blocks_and_few_are_strata() -> None:
    positions = _many(5, 40)
    for texts, blocks in ((10, 10), (4, 8), (1, 10)):
        of_chunk = [chunk * texts // 40 for chunk in range(40)]
        assert estimates(positions, of_chunk)["kl_mean"].blocks == blocks
    alone = [0] * 39 + [1]  # one chunk says nothing of how its text's chunks scatter
    assert estimates(positions, alone)["kl_mean"].low is None


def test_texts_of_too_few_chunks_are_an_error() -> None:
    with pytest.raises(ValueError, match="10 chunks, and texts of 3"):
        Texts(_many(0), (0, 0, 0))


def test_unknown() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean: kl_mean\?"):
        metric("kl_meen")
