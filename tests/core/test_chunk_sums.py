"""Sums by chunk say of means and intervals what all positions say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfund.core.intervals import KEPT, interval
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.chunk_sums import ChunkSums
from qfund.core.metrics.estimates import estimates
from qfund.core.metrics.positions import Positions


def positions(seed: int, sizes: list[int]) -> Positions:
    """Chunks of these sizes, each but for its last position with a correct token."""
    random = np.random.default_rng(seed)
    ids = np.repeat(np.arange(float(len(sizes))), sizes)
    scored = np.concatenate([np.arange(size) < size - 1 for size in sizes]) if sizes else np.zeros(0, bool)
    n, m = len(ids), int(scored.sum())
    return Positions(
        kl=random.exponential(1, n),
        same_top1=(random.random(n) < 0.8).astype(float),
        max_abs=random.random(n),
        nll_reference=random.random(m),
        nll_candidate=random.random(m),
        delta_p=random.normal(0, 0.1, m),
        chunk=ids,
        chunk_scored=ids[scored],
    )


def sums(given: Positions, texts: tuple[int, ...] = ()) -> ChunkSums:
    found = chunk_sums.of(given, texts)
    assert found is not None
    return found


@given(st.integers(0, 99), st.lists(st.integers(1, 5), min_size=1, max_size=600))
@settings(max_examples=30)
def test_sums_of_chunks_are_the_whole(seed: int, sizes: list[int]) -> None:
    given = positions(seed, sizes)
    found = sums(given)
    assert len(found.positions) == len(found.scored) == len(found.texts) <= KEPT
    assert sum(found.positions) == sum(sizes) and sum(found.scored) == sum(sizes) - len(sizes)
    for name in ("kl", "same_top1", "nll_reference", "delta_p"):
        values = getattr(given, name)
        if len(values):
            assert sum(found.sums[name]) == pytest.approx(float(values.sum()))
    assert "max_abs" not in found.sums


def test_by_hand() -> None:
    ids = np.array([0.0, 0, 1, 2])
    found = sums(Positions(kl=np.array([1.0, 2, 3, 4]), delta_p=np.array([0.5]), chunk=ids, chunk_scored=ids[3:]))
    assert found == ChunkSums((2, 1, 1), (0, 0, 1), (0, 0, 0), {"kl": (3.0, 3.0, 4.0), "delta_p": (0.0, 0.0, 0.5)})


@pytest.mark.parametrize("texts", [1, 3, 12])
def test_intervals_from_sums_are_those_of_positions(texts: int) -> None:
    given = positions(1, [7] * 47 + [3])
    of_chunk = tuple(chunk * texts // 48 for chunk in range(48))
    found = chunk_sums.mean(sums(given, of_chunk), "kl")
    estimate = estimates(given, of_chunk)["kl_mean"]
    assert found is not None
    assert found.value == pytest.approx(estimate.value)
    assert interval(found) == pytest.approx((estimate.low, estimate.high))
    assert found.blocks == estimate.blocks == {1: 10, 3: 9, 12: 12}[texts]


def test_very_many_chunks_are_merged_within_their_text() -> None:
    given = positions(2, [2] * 1000)
    found = sums(given, tuple([0] * 700 + [1] * 300))
    assert len(found.positions) <= KEPT and set(found.texts) == {0, 1}
    of_second = [n for n, text in zip(found.positions, found.texts, strict=True) if text == 1]
    assert sum(of_second) == 600


def test_what_was_not_kept_has_no_mean() -> None:
    assert chunk_sums.of(Positions(kl=np.ones(3))) is None
    found = sums(Positions(kl=np.ones(3), chunk=np.zeros(3)))
    assert chunk_sums.mean(found, "delta_p") is None
    assert chunk_sums.mean(found, "same_top1") is None
