"""Two candidates on the same tokens."""

import math
from dataclasses import replace

import numpy as np
import pytest

from qfund.core.intervals import DISTANCES, interval
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.estimates import estimates
from qfund.core.metrics.positions import Positions
from qfund.features.compare.request.pairs import paired
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from tests.features.compare.reports import make_report


def two(seed: int, noise: float, shift: float, broken: bool = False) -> Report:
    """INT8 is BF16 with ``shift`` more damage at each position, both moved together by how hard a text is."""
    random = np.random.default_rng(seed)
    n = 40 * 50
    ids = np.repeat(np.arange(40.0), 50)
    hard = random.exponential(1, n) + np.repeat(random.normal(0, 1, 40) ** 2, 50)
    found = make_report(Spec("pydoc-llama", precisions=("bf16", "int8")))
    results = []
    for row, more in zip(found.results, (0.0, shift), strict=True):
        kl = hard + more + random.normal(0, noise, n)
        kept = (ids != 3) | (not broken) | (row.precision == "bf16")
        given = Positions(kl=kl[kept], chunk=ids[kept], nll_candidate=kl, nll_reference=np.ones(n), chunk_scored=ids)
        results.append(replace(row, chunks=chunk_sums.of(given), fidelity=estimates(given)))
    return replace(found, results=tuple(results))


def test_paired_sees_what_two_intervals_do_not() -> None:
    found = two(0, 0.01, 0.05)
    bf16, int8 = (row.fidelity["kl_mean"] for row in found.results)
    assert bf16.high is not None and int8.low is not None
    assert int8.low < bf16.high, "the intervals overlap"
    difference = paired(found, "int8", "bf16")["kl_mean"]
    assert difference.low is not None and 0.04 < difference.low < difference.value < 0.06
    assert difference.value == pytest.approx(int8.value - bf16.value)
    perplexity = paired(found, "int8", "bf16")["perplexity_ratio"]
    assert perplexity.unit == "×" and perplexity.low is not None and perplexity.low > 1.04
    assert perplexity.value == pytest.approx(
        found.results[1].fidelity["perplexity"].value / found.results[0].fidelity["perplexity"].value
    )


def test_paired_with_itself_and_turned_round() -> None:
    found = two(1, 0.1, 0.0)
    same = paired(found, "bf16", "bf16")
    assert {(row.value, row.low, row.high) for name, row in same.items() if name != "perplexity_ratio"} == {(0, 0, 0)}
    assert (same["perplexity_ratio"].value, same["perplexity_ratio"].low) == (1.0, 1.0)
    one, other = (paired(found, *names)["kl_mean"] for names in (("int8", "bf16"), ("bf16", "int8")))
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -(other.high or 0), -(other.low or 0)))


def test_paired_error_is_that_of_the_differences_by_hand() -> None:
    found = two(2, 0.1, 0.0)
    a, b = (row.chunks for row in found.results)
    assert a is not None and b is not None
    gaps = ((np.array(a.sums["kl"]) - np.array(b.sums["kl"])) / 50).reshape(10, 4).mean(1)
    estimate = paired(found, "bf16", "int8")["kl_mean"]
    # What ten blocks of four chunks scatter, and what they share where chunks k apart correlate by 0.4 · 0.85ᵏ.
    apart = np.abs(np.arange(40)[:, None] - np.arange(40))
    correlated = np.where(apart, DISTANCES.share * DISTANCES.decay**apart, 1.0)
    block, whole = correlated[:4, :4].mean(), correlated.mean()
    unseen = whole / ((block - whole) / 9)
    assert estimate.se == pytest.approx(gaps.std(ddof=1) / math.sqrt(10) * math.sqrt(unseen))
    assert (estimate.blocks, estimate.n) == (10, 2000)
    seen = chunk_sums.mean(a, "kl")
    assert seen is not None and interval(seen) is not None


def test_paired_leaves_out_a_chunk_that_only_one_has() -> None:
    found = paired(two(3, 0.01, 0.05, broken=True), "int8", "bf16")
    assert (found["kl_mean"].n, found["perplexity_ratio"].n) == (39 * 50, 40 * 50)
    assert found["kl_mean"].value == pytest.approx(0.05, abs=0.01)


def test_paired_of_what_has_no_sums_is_empty() -> None:
    found = make_report(Spec("pydoc-llama", precisions=("bf16", "int8")))
    assert paired(found, "bf16", "int8") == {}
