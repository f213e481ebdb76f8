"""Reading until it is decided: what each look may take of the 5 %, when reading on is given up, and how often a verdict
is wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import CASES, HARD, Case
from benchmarks.race import wrong
from qfund.core.estimate import Estimate
from qfund.core.intervals import t_quantile
from qfund.features.compare.measure.chance import chance
from qfund.features.compare.request.decision import Finding
from qfund.features.compare.request.simultaneous import comparisons


def test_looks_share_the_five_per_cent() -> None:
    assert comparisons(12, 0, 6) == 12  # so many tokens were chosen beforehand
    assert [comparisons(12, look, 6) for look in (1, 6, 7, 12, 13)] == [144, 144, 288, 288, 576]
    assert [comparisons(1, look, 0) for look in (1, 2, 3)] == [2, 6, 12], "as results of before were told"
    for planned in (0, 6, 9):
        parts = [1 / comparisons(1, look, planned) for look in range(1, 400)]
        assert 0.99 < sum(parts) <= 1


@pytest.mark.parametrize("case", [CASES[1], CASES[3], HARD[0]], ids=lambda case: case.name)
def test_few_verdicts_are_wrong(case: Case) -> None:
    """``benchmarks/race.py`` with fewer texts, of chunks that depend on one another; its own error is added."""
    count = 150
    assert wrong(case, count, case.drift) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / count)


def changed(value: float, half: float, margin: float, blocks: int = 8) -> Finding:
    estimate = Estimate(value, None, 1000, "share", value - half, value + half, blocks)
    return Finding("top1_agreement", estimate, margin, None, "inconclusive")


@pytest.mark.parametrize(("value", "read"), [(0.010, 0.125), (0.017, 0.125), (0.017, 0.5), (0.024, 0.3), (0.028, 0.6)])
def test_the_chance_is_how_often_the_rest_decides(value: float, read: float) -> None:
    """Of many truths that what was read allows, with as many rests of the text each."""
    random, now, end, draws = np.random.default_rng(0), 12 * 12, 12 * 12, 400_000
    quantile, last = (t_quantile(1 - 0.025 / many, blocks - 1) for many, blocks in ((now, 8), (end, 10)))
    error = 0.0025
    truths = value + error * random.standard_normal(draws)
    rest = truths + error * math.sqrt(read / (1 - read)) * random.standard_normal(draws)
    whole, half = read * value + (1 - read) * rest, last * error * math.sqrt(read)
    decided = np.mean((whole + half < 0.02) | (whole - half > 0.02))
    found = chance([changed(value, quantile * error, 0.02)], read, now, end, 10)
    assert found == pytest.approx(decided, abs=0.004)


def test_the_chance_of_several_metrics_and_of_none() -> None:
    near, far, beyond = changed(0.0199, 0.02, 0.02), changed(0.001, 0.02, 0.02), changed(0.5, 0.02, 0.02)
    alone = [chance([finding], 0.25, 12, 24, 10) for finding in (near, far, beyond)]
    assert alone[0] < 0.05 and alone[2] == pytest.approx(1)
    assert chance([near, far], 0.25, 12, 24, 10) == pytest.approx(alone[0], rel=0.2), "all must be within"
    assert chance([near, beyond], 0.25, 12, 24, 10) == pytest.approx(1), "one is enough to be outside"
    unknown = replace(near, estimate=replace(near.estimate, low=None, high=None))
    assert chance([near, unknown], 0.25, 12, 24, 10) == 1
    # None of many: the bound, 0.03, shrinks with n, to less than the margin's half.
    none = replace(near, estimate=replace(near.estimate, value=0.0, low=0.0, high=0.03))
    assert chance([none], 0.25, 12, 12, 8) > 0.9
