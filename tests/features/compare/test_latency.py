"""Models timed beside each other, by a clock that is set by hand."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.estimate import Spread, spread
from qfund.features.compare.measure import latency
from qfund.features.compare.measure.latency import latencies


class Clock:
    """Time that passes only when a model runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def model(self, name: str, *seconds: float) -> Callable[[], object]:
        """Takes those times, one after the other, again and again."""

        def call() -> None:
            taken = self.calls.count(name)
            self.calls.append(name)
            self.now += seconds[taken % len(seconds)]

        return call


def test_rounds_are_interleaved_and_the_order_changes() -> None:
    clock = Clock()
    models = {name: clock.model(name, 1.0) for name in "abc"}
    found = latencies(models, rounds=4, seconds_budget=1e9, clock=clock)
    assert "".join(clock.calls) == "abc" + "abc" + "acb" + "cab" + "cba"
    assert {row.rounds for row in found.values()} == {4}


def test_the_warm_up_is_not_counted_and_ratios_are_taken_within_rounds() -> None:
    clock = Clock()
    # The machine becomes ten times slower after two rounds; the ratio never changes.
    models = {"fp32": clock.model("fp32", 99, 1, 1, 10, 10, 10), "int8": clock.model("int8", 1, 2, 2, 20, 20, 20)}
    found = latencies(models, rounds=5, seconds_budget=1e9, clock=clock)
    assert found["fp32"] == latency.Latency(Spread(10, 1, 10), Spread(1, 1, 1), 5)
    assert found["int8"] == latency.Latency(Spread(20, 2, 20), Spread(2, 2, 2), 5)


def test_a_budget_ends_it_but_one_round_is_always_measured() -> None:
    for budget, rounds in ((0.0, 1), (4.5, 2), (1e9, 7)):
        clock = Clock()
        models = {name: clock.model(name, 1.0) for name in "ab"}
        assert latencies(models, rounds=7, seconds_budget=budget, clock=clock)["b"].rounds == rounds


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_a_spread_holds_its_median(values: list[float]) -> None:
    found = spread(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


@pytest.mark.parametrize(("count", "cut"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5), (25, 7)])
def test_the_interval_is_that_of_the_sign_test(count: int, cut: int) -> None:
    """Ranks from the tables of the binomial distribution (n = 9: 2nd to 8th, n = 20: 6th to 15th)."""
    found = spread([float(value) for value in range(count)])
    assert (found.low, found.high) == (cut, count - 1 - cut)
