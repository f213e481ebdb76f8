"""Intervals: Student's t by tables, cluster-robust errors by hand, and how often they cover in simulations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from benchmarks.coverage import CASES, Case, covered
from qfund.core.intervals import (
    KEPT,
    MIN_BLOCKS,
    MOST_BLOCKS,
    Dependence,
    Scatter,
    difference,
    interval,
    merged,
    scatter,
    t_quantile,
    widened,
)

ONE = np.zeros(10, dtype=np.int64)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 8, 50, 255])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.9994])
def test_student(freedom: int, probability: float) -> None:
    """Against its density, summed by Simpson's rule."""
    end = t_quantile(probability, freedom)
    t = np.linspace(0, end, 20_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    density = np.exp(log_scale - (freedom + 1) / 2 * np.log1p(t**2 / freedom))
    inside = (density[0] + density[-1] + 4 * density[1::2].sum() + 2 * density[2:-1:2].sum()) * (t[1] - t[0]) / 3
    assert 0.5 + inside == pytest.approx(probability, abs=1e-7)


@given(st.integers(1, 400), st.floats(0.001, 0.9999))
def test_student_as_scipy_has_it(freedom: int, probability: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(stdtrit(freedom, probability), rel=1e-11, abs=1e-15)


def test_student_as_every_table_has_it() -> None:
    assert [round(t_quantile(0.975, freedom), 3) for freedom in (1, 2, 9, 30)] == [12.706, 4.303, 2.262, 2.042]
    assert t_quantile(0.975, 100_000) == pytest.approx(1.95998, abs=1e-4)


def test_symmetric_blocks_have_student_s_interval() -> None:
    sums = np.array([8.0, 9, 10, 11, 12, 12, 11, 10, 9, 8])
    low, high = interval(scatter(sums, np.full(10, 10.0), ONE)) or (0, 0)
    half = t_quantile(0.975, 9) * (sums / 10).std(ddof=1) / math.sqrt(10)
    assert (low, high) == pytest.approx((1 - half, 1 + half))


def test_a_long_tail_moves_the_interval_towards_it() -> None:
    sums = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, 1, 11])
    found = scatter(sums, np.ones(10), ONE)
    low, high = interval(found) or (0, 0)
    half = t_quantile(0.975, 9) * math.sqrt(found.variance)
    assert low == pytest.approx(2 - half) and high > 2 + 1.2 * half


def test_blocks_of_unequal_size_weigh_what_they_hold() -> None:
    sums, counts = np.array([2.0] * 8 + [100.0]), np.array([1.0] * 8 + [50.0])
    found = scatter(sums, counts, np.zeros(9, dtype=np.int64))
    assert found.value == 2.0 and found.variance == 0.0
    assert interval(found) == (2.0, 2.0)


def test_empty_blocks_do_not_count() -> None:
    sums, counts = np.array([1.0, 2, 3, 0] * 4), np.array([1.0, 1, 1, 0] * 4)
    assert scatter(sums[:12], counts[:12], np.zeros(12, dtype=np.int64)).blocks == 9


def test_none_of_many_has_a_bound() -> None:
    low, high = interval(scatter(np.full(10, 50.0), np.full(10, 50.0), ONE), share=True) or (0, 0)
    square = t_quantile(0.975, 9) ** 2 / 500
    assert (low, high) == pytest.approx((1 / (1 + square), 1.0))


def test_dependence_widens_a_share() -> None:
    """Equal shares, once spread evenly over the chunks and once in half of them."""
    even = interval(scatter(np.tile([4.0, 6.0], 5), np.full(10, 10.0), ONE), share=True) or (0, 0)
    lumped = interval(scatter(np.tile([0.0, 10.0], 5), np.full(10, 10.0), ONE), share=True) or (0, 0)
    assert lumped[1] - lumped[0] > 1.5 * (even[1] - even[0])


@given(st.lists(st.floats(-100, 100), min_size=MIN_BLOCKS, max_size=40), st.booleans())
def test_the_interval_holds_the_estimate_and_grows_with_comparisons(values: list[float], share: bool) -> None:
    sums = np.abs(np.array(values)) / 100 if share else np.array(values)
    found = scatter(sums, np.ones(len(sums)), np.zeros(len(sums), dtype=np.int64))
    low, high = interval(found, share) or (math.nan, math.nan)
    assert low <= found.value <= high
    wider = widened(found.value, low, high, found.blocks, 10)
    assert wider[0] <= low and high <= wider[1]
    assert widened(found.value, low, high, found.blocks, 1) == (low, high)
    beyond = interval(found, share, 0.99) or (math.nan, math.nan)
    assert beyond[0] <= low + 1e-9 and high <= beyond[1] + 1e-9


def test_what_moves_both_does_not_count() -> None:
    random = np.random.default_rng(2)
    common, n = random.normal(0, 10, 10), np.ones(10)
    one, other = (scatter(common + random.normal(0, 0.1, 10) + more, n, ONE) for more in (1.0, 0.0))
    low, high = interval(difference(one, other)) or (0, 0)
    assert 0.8 < low < 1 < high < 1.2


def test_freedom_of_strata_is_satterthwaite_s() -> None:
    values, strata = np.array([-1.0, 1, -3, 0, 3]), np.array([0, 0, 1, 1, 1])
    found = Scatter(0.0, values, strata, 5.0)
    v = (2 * 2 / 1, 18 * 3 / 2)  # Σu² · B/(B − 1)
    assert found.variance == pytest.approx(sum(v))
    assert found.freedom == math.floor(sum(v) ** 2 / (v[0] ** 2 / 1 + v[1] ** 2 / 2))


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_merged_blocks_are_neighbors_of_one_text(sizes: list[int]) -> None:
    texts = [text for text, size in enumerate(sizes) for _ in range(size)]
    blocks = merged(texts, KEPT)
    assert blocks[0] == 0 and set(np.diff(blocks)) <= {0, 1}
    assert blocks[-1] < KEPT + 2 * (len(sizes) - 1) + 1
    assert all(len({texts[i] for i in np.flatnonzero(blocks == block)}) == 1 for block in range(blocks[-1] + 1))
    if len(texts) <= KEPT:
        assert list(blocks) == list(range(len(texts)))


def test_more_texts_than_blocks_stay_apart() -> None:
    assert list(merged(range(KEPT + 9), KEPT)) == list(range(KEPT + 9))
    assert list(merged([], KEPT)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_intervals_cover_in_93_to_97_of_100(case: Case) -> None:
    """The same simulation as ``benchmarks/coverage.py`` with fewer texts; its own error is added to the bounds. Chunks
    that are independent after all are covered more often than is said, never less."""
    for blocks, texts in ((10, 1000), (20, 1000), (50, 400), (200, 200)):
        slack = 3 * math.sqrt(0.95 * 0.05 / texts)
        share = covered(case, blocks, texts, length=48, drift=case.drift)
        assert 0.93 - slack < share < 0.97 + slack, f"{blocks} blocks: {share:.3f}"
    assert covered(case, 20, 300, length=48) > 0.93


@pytest.mark.parametrize(("share", "decay", "chunks"), [(1, 0.3, 10), (1, 0.7, 32), (0.4, 0.85, 10), (0.6, 0.85, 64)])
def test_what_blocks_do_not_see_is_added(share: float, decay: float, chunks: int) -> None:
    """Against the covariance of a first-order process and what is each chunk's own: the expected variance is that of
    the mean."""
    memory = Dependence(share, decay)
    apart = np.abs(np.arange(chunks)[:, None] - np.arange(chunks))
    covariance = np.where(apart, share * decay**apart, 1.0)
    texts = np.zeros(chunks, dtype=np.int64)
    # The variance is a quadratic form of the chunks' sums: its expectation, from unit vectors.
    root = np.linalg.cholesky(covariance)
    expected = sum(scatter(column, np.ones(chunks), texts, memory).variance for column in root.T)
    exact = chunks % MOST_BLOCKS == 0  # blocks of equal length
    assert expected == pytest.approx(covariance.mean(), rel=1e-9 if exact else 0.1)


def test_dependence_from_chunk_to_chunk_widens() -> None:
    """Chunks whose means drift slowly say less than as many that are shuffled."""
    random = np.random.default_rng(6)
    slow = np.repeat(random.normal(0, 1, 10), 20) + random.normal(0, 0.1, 200)
    widths = []
    for sums in (slow, random.permutation(slow)):
        found = scatter(sums, np.ones(200), np.zeros(200, dtype=np.int64))
        low, high = interval(found) or (0, 0)
        assert found.blocks == MOST_BLOCKS
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


@given(st.lists(st.integers(2, 90), min_size=2, max_size=7))
def test_every_text_keeps_two_blocks(sizes: list[int]) -> None:
    texts = np.repeat(np.arange(len(sizes)), sizes)
    found = scatter(np.arange(len(texts), dtype=float), np.ones(len(texts)), texts)
    assert found.blocks == len(found.influence) <= MOST_BLOCKS + 2 * (len(sizes) - 1)
    assert found.blocks >= min(MIN_BLOCKS, len(texts))
    assert found.influence.sum() == pytest.approx(0, abs=1e-9)
    assert math.isfinite(found.variance)
