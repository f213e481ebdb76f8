"""Logits → positions, against an independent float64 computation in NumPy."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfund.core.intervals import Vector
from qfund.core.metrics.estimates import estimates
from qfund.models.comparison import positions as comparison_positions
from qfund.models.comparison import tiles
from qfund.models.comparison.positions import Candidate, Comparison


def compared(reference: torch.Tensor, other: torch.Tensor, targets: torch.Tensor | None = None) -> Candidate:
    comparison = Comparison({"x": Candidate()})
    comparison.add_logits(reference, {"x": other}, targets, choose=first(3))
    return comparison.candidates["x"]


def first(count: int) -> comparison_positions.Choose:
    """Keep the first positions in full."""
    return lambda divergences: np.arange(min(count, *map(len, divergences.values())) if divergences else 0)


def softmax(logits: Vector) -> Vector:
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    result: Vector = exp / exp.sum(-1, keepdims=True)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_against_numpy(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 7 * 50)  # tiles that do not divide the positions
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(40, 50, generator=generator) * 3
    other = (reference + torch.randn(40, 50, generator=generator) * 0.3).to(dtype)
    targets = torch.randint(0, 50, (40,), generator=generator)
    targets[::9] = -100
    found = compared(reference, other, targets).positions()
    assert found.kl is not None and found.same_top1 is not None
    a, b = reference.double().numpy(), other.double().numpy()
    p, q = softmax(a), softmax(b)
    assert found.mean_abs is not None and found.max_abs is not None
    np.testing.assert_allclose(found.mean_abs, np.abs(a - b).mean(-1), rtol=1e-13)
    np.testing.assert_array_equal(found.max_abs, np.abs(a - b).max(-1))
    np.testing.assert_allclose(found.kl, (p * np.log(p / q)).sum(-1), rtol=1e-9)
    np.testing.assert_array_equal(found.same_top1, a.argmax(-1) == b.argmax(-1))
    scored = targets.numpy() >= 0
    correct = (np.flatnonzero(scored), targets.numpy()[scored])
    assert found.nll_reference is not None and found.nll_candidate is not None
    np.testing.assert_allclose(found.nll_reference, -np.log(p[correct]), rtol=1e-12)
    np.testing.assert_allclose(found.nll_candidate, -np.log(q[correct]), rtol=1e-12)


def test_by_hand() -> None:
    # p = (1/4, 3/4), q = (1/2, 1/2): KL = ¼ ln ½ + ¾ ln 3/2.
    reference = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    other = torch.zeros(1, 2, dtype=torch.float64)
    found = compared(reference, other, torch.tensor([1])).positions()
    assert found.kl is not None
    assert found.kl[0] == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-14)
    assert found.nll_candidate == pytest.approx([math.log(2)])
    assert found.nll_reference == pytest.approx([math.log(4 / 3)])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_a_model_against_itself_is_exactly_zero(seed: int, scale: float) -> None:
    values = torch.randn(11, 13, generator=torch.Generator().manual_seed(seed)) * scale
    candidate = compared(values, values.clone(), torch.arange(11))
    positions = candidate.positions()
    found = estimates(positions)
    zero = ("mean_abs_logit_diff", "max_abs_logit_diff", "kl_mean", "kl_p99", "kl_max")
    assert [found[name].value for name in zero] == [0.0] * 5
    assert found["top1_agreement"].value == found["perplexity_ratio"].value == 1.0
    assert candidate.histogram().zeros == 11 * 13


def test_shifted_logits_are_the_same_distribution() -> None:
    logits = torch.randn(5, 9, dtype=torch.float64)
    found = compared(logits, logits + 7.0).positions()
    assert found.kl is not None
    assert found.mean_abs is not None and found.kl.max() < 1e-14
    np.testing.assert_allclose(found.mean_abs, 7.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_positions_are_counted_and_left_out(bad: float) -> None:
    reference = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    other = reference + 0.1
    other[2, 1] = bad
    candidate = compared(reference, other, torch.tensor([0, 1, 2, 3, 0, -100]))
    positions = candidate.positions()
    assert candidate.nonfinite == 1
    assert positions.mean_abs is not None and len(positions.mean_abs) == 5
    assert positions.nll_candidate is not None and len(positions.nll_candidate) == 4
    assert all(math.isfinite(found.value) for found in estimates(positions).values())
    assert sum(candidate.histogram().counts) + candidate.histogram().zeros == 5 * 4
    assert [len(kept.top) for kept in candidate.kept.values()] == [4, 4, 0], "nothing is made up where it is not finite"


def test_nothing_finite_gives_no_numbers() -> None:
    candidate = compared(torch.zeros(3, 4), torch.full((3, 4), math.nan))
    assert estimates(candidate.positions()) == {}
    assert candidate.nonfinite == 3


def test_a_single_output_is_a_score_and_no_distribution() -> None:
    found = estimates(compared(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [2.0]])).positions())
    distances = {name: row.value for name, row in found.items()}
    assert distances.pop("logit_sqnr") == pytest.approx(10 * math.log10((1 + 4) / 0.25))
    assert distances == {"mean_abs_logit_diff": 0.25, "max_abs_logit_diff": 0.5, "logit_cosine": 1.0}


def test_a_certain_reference_has_a_finite_divergence() -> None:
    reference = torch.tensor([[0.0, -1e5, -1e5]])  # two probabilities underflow to exactly 0
    found = compared(reference, torch.zeros(1, 3)).positions()
    assert found.kl is not None
    assert found.kl[0] == pytest.approx(math.log(3))


def test_the_histogram_puts_a_difference_in_its_bin() -> None:
    reference = torch.zeros(1, 4, dtype=torch.float64)
    other = torch.tensor([[0.0, 1.5e-3, 2.0, 1e9]], dtype=torch.float64)
    histogram = compared(reference, other).histogram()
    bins = {index: count for index, count in enumerate(histogram.counts) if count}
    expected = [math.floor((math.log10(x) - histogram.low) / histogram.width) for x in (1.5e-3, 2.0)]
    assert histogram.zeros == 1
    assert bins == {expected[0]: 1, expected[1]: 1, len(histogram.counts) - 1: 1}


def test_hidden_states() -> None:
    comparison = Comparison({"x": Candidate()})
    reference, other = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    comparison.add_hidden(reference, {"x": other})
    comparison.add_hidden(reference[:1], {"x": other[:1] * 2}, "pooled")
    positions = comparison.candidates["x"].positions()
    found = estimates(positions)
    assert found["mean_abs_hidden_diff"].value == pytest.approx((0 + 1.5) / 2)
    assert found["max_abs_hidden_diff"].value == 2.0
    assert found["hidden_cosine"].value == pytest.approx(0.5)
    assert found["max_abs_pooled_diff"].value == 4.0
    assert found["pooled_cosine"].value == pytest.approx(1.0)


def test_the_first_alternative_is_the_argmax_also_among_equals() -> None:
    """In 16 bits many logits are equal: sorting must break ties as the top-1 comparison does."""
    logits = torch.randint(-2, 3, (200, 40), generator=torch.Generator().manual_seed(4)).float()
    comparison = Comparison({"x": Candidate()})
    comparison.add_logits(logits, {"x": logits.flip(-1)}, choose=first(200))
    assert [kept.top[0] for kept in comparison.reference.kept.values()] == logits.argmax(-1).tolist()
    kept = comparison.candidates["x"].kept.values()
    assert [row.top[0] for row in kept] == logits.flip(-1).argmax(-1).tolist()
    assert all(row.probabilities == sorted(row.probabilities, reverse=True) for row in kept)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_agreement_in_order_against_sorting(seed: int, outputs: int, dtype: torch.dtype) -> None:
    """Up to which rank the most likely outputs are the same, equal ones in the order of their numbers."""
    generator = torch.Generator().manual_seed(seed)
    reference = (torch.randn(20, outputs, generator=generator) * 3).round()
    other = (reference + torch.randint(-1, 2, reference.shape, generator=generator) / 2).to(dtype)
    other[0], other[1] = reference[0].to(dtype), 0.0
    found = compared(reference, other).positions()
    orders = [np.argsort(-values.double().numpy(), axis=-1, kind="stable")[:, :10] for values in (reference, other)]
    agreed = np.logical_and.accumulate(orders[0] == orders[1], axis=-1)
    assert outputs == 1 or (found.same_top1 is not None and found.same_top1.tolist() == agreed[:, 0].tolist())
    assert outputs < 10 or (found.top_agreed is not None and found.top_agreed.tolist() == agreed.sum(-1).tolist())


@pytest.mark.parametrize("shift", [0.0, 290.0, -310.0, 5000.0, -1e30])
def test_logits_far_from_zero_are_the_same_distribution(shift: float) -> None:
    """Their exponentials would be infinite or nothing."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randint(-4, 5, (6, 30), generator=generator).double()
    other = logits + torch.randint(-1, 2, logits.shape, generator=generator)
    near, far = compared(logits, other, torch.arange(6)), compared(logits + shift, other, torch.arange(6))
    if shift == -1e30:  # a distribution over all that is left of the differences: nothing
        far = compared(torch.full((6, 30), shift).double(), torch.zeros(6, 30).double(), torch.arange(6))
        assert np.abs(far.vectors["kl"].values).max() == 0.0
        return
    for name in ("kl", "kl_reverse", "nll_reference", "nll_candidate", "confidence", "delta_p"):
        np.testing.assert_allclose(
            far.vectors[name].values, near.vectors[name].values, rtol=1e-9, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_positions(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, each position is taken once, and torch computes with as many as before."""
    monkeypatch.setattr(tiles, "TILE", 64)
    generator, before = torch.Generator().manual_seed(5), torch.get_num_threads()
    reference = torch.randn(101, 20, generator=generator)
    other = reference + torch.randn(101, 20, generator=generator) * 0.1
    alone = compared(reference, other)
    torch.set_num_threads(threads)
    try:
        shared = compared(reference, other)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, column in alone.vectors.items():
        np.testing.assert_array_equal(shared.vectors[name].values, column.values, name)
    assert shared.counts.equal(alone.counts)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 39), unique=True, max_size=5),
    st.booleans(),
    st.sampled_from([1.0, 100.0, -100.0]),
    st.sampled_from([0.2, 5.0]),
)
def test_parts_of_the_vocabulary_add_up(seed: int, cuts: list[int], rounded: bool, scale: float, apart: float) -> None:
    """However the vocabulary is cut, the statistics are those of all logits at once, ties and infinities included, and
    logits whose exponentials leave double precision, of candidates that find likely what the reference does or not."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(7, 40, generator=generator) * 4
    reference[5:] = reference[5:].sort(1).values * scale
    other = reference + torch.randn(7, 40, generator=generator) * apart
    if rounded:
        reference, other = reference.round(), other.round()
    other[3, 11] = math.inf
    targets = torch.randint(-1, 40, (7,), generator=generator)
    whole, parts = (Comparison({"x": Candidate()}) for _ in range(2))
    whole.add_logits(reference, {"x": other}, targets, first(7))
    logits_ = parts.logits(["x"], 7, targets, reference.device)
    ends = [0, *sorted(cuts), 40]
    for start, end in pairwise(ends):
        logits_.add(start, reference[:, start:end], {"x": other[:, start:end]})
    parts.take(logits_, first(7))
    one, two = whole.candidates["x"], parts.candidates["x"]
    assert (one.nonfinite, one.finite) == (two.nonfinite, two.finite) == (1, [place != 3 for place in range(7)])
    assert one.vectors.keys() == two.vectors.keys()
    for name, column in one.vectors.items():
        np.testing.assert_allclose(two.vectors[name].values, column.values, rtol=1e-9, atol=1e-13, err_msg=name)
    kept, as_well = ([(place, row.top) for place, row in found.kept.items()] for found in (one, two))
    assert kept == as_well
