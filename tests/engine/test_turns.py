"""Whose turn it is, who may have another place, and who ends what."""

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.errors import Cancelled, QueueFull, TimedOut
from qfund.engine import job as engine_job
from qfund.engine import lane as engine_lane
from qfund.engine import settings as engine_settings
from qfund.engine.durations import Durations
from qfund.engine.job import Job, Record, Visitor
from qfund.engine.jobs import Desk, Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.engine.turns import Turns
from qfund.features.compare.request.spec import Spec
from tests.engine import toys
from tests.engine.test_engine import Bench, bench, finished, running, spec, store
from tests.patience import until

__all__ = ["bench", "store"]  # fixtures

ANNE, BEN, CLEO = Visitor("anne", "10.0.0.1"), Visitor("ben", "10.0.0.2"), Visitor("cleo", "10.0.0.3")


def record(name: str, owner: Visitor) -> Record:
    return Record(Job(name, Spec(name)), owner)


def filled(*owners: Visitor) -> Turns:
    turns = Turns(100)
    for number, owner in enumerate(owners):
        turns.add(record(f"{owner.id} {number}", owner))
    return turns


def test_visitors_take_turns_however_much_each_has_asked_for() -> None:
    turns = filled(ANNE, ANNE, ANNE, ANNE, BEN, BEN, CLEO)
    expected = ["anne 0", "ben 4", "cleo 6", "anne 1", "ben 5", "anne 2", "anne 3"]
    assert [each.job.key for each in turns.order()] == expected
    assert [taken.job.key for _ in expected if (taken := turns.take())] == expected


def test_an_address_has_one_turn_and_its_visitors_share_it() -> None:
    first, second = Visitor("first", "10.0.0.1"), Visitor("second", "10.0.0.1")
    turns = filled(first, first, second, BEN, BEN)
    assert [each.job.key for each in turns.order()] == ["first 0", "ben 3", "second 2", "ben 4", "first 1"]


@given(st.lists(st.sampled_from([ANNE, BEN, CLEO]), max_size=12), st.integers(0, 12))
def test_the_order_that_is_told_is_the_one_in_which_they_run_and_nobody_waits_longer_than_a_round(
    owners: list[Visitor], before: int
) -> None:
    turns = filled(*owners)
    for _ in range(min(before, len(owners))):
        turns.take()
    told = turns.order()
    taken = [found for _ in told if (found := turns.take())]
    assert taken == told and turns.take() is None
    for owner in {each.owners[0].id for each in told}:
        places = [place for place, each in enumerate(told) if each.owners[0].id == owner]
        assert all(later - earlier <= 3 for earlier, later in pairwise([-1, *places]))


def test_places_are_counted_for_a_visitor_and_for_an_address() -> None:
    turns = Turns(100, places=2)
    for number in range(2):
        turns.admit(ANNE)
        turns.add(record(str(number), ANNE))
    turns.take()
    with pytest.raises(QueueFull, match="2 of your jobs"):
        turns.admit(ANNE)
    turns.admit(BEN)
    for number in range(2):
        turns.admit(Visitor("anne again", ANNE.address))
        turns.add(record(f"again {number}", Visitor("anne again", ANNE.address)))
    with pytest.raises(QueueFull, match="4 jobs from your network"):
        turns.admit(Visitor("a third", ANNE.address))
    turns.admit(Visitor("without an address"))
    turns.admit(BEN)


def test_nine_presses_of_one_visitor_leave_room_for_others(bench: Bench) -> None:
    jobs = bench.jobs(places=3)
    anne, ben = Desk(jobs, ANNE), Desk(jobs, BEN)
    first = anne.submit(spec("wait"))
    running(jobs, first)
    asked = [spec(f"press {number}") for number in range(8)]
    kept = [anne.submit(each) for each in asked[:2]]
    for each in asked[2:]:
        with pytest.raises(QueueFull, match="3 of your jobs"):
            anne.submit(each)
    other = ben.submit(spec("other"))
    assert other.position == 1
    assert [found.position for each in kept if (found := anne.get(each.key))] == [2, 3]
    bench.open_gate()
    assert all(finished(jobs, each).state == "done" for each in (other, *kept))
    assert bench.log()[1:] == ["wait", "other", "press", "press"]
    anne.submit(spec("wait"))


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Sums take as long as they like, shouts are quick."""
    for name, kind in toys.TOYS.items():
        monkeypatch.setitem(KINDS, name, kind)
    jobs = Jobs(Store("sqlite://"), command=toys.COMMAND, identify=lambda request: "weights")
    yield jobs
    jobs.close()


def test_what_is_quick_never_waits_behind_what_is_not(lanes: Jobs) -> None:
    long = lanes.submit(toys.Sum("a-model", (-1,)), ANNE)
    first = running(lanes, long)
    waiting = lanes.submit(toys.Sum("a-model", (1,)), ANNE)
    told = [finished(lanes, lanes.submit(toys.Murmur("a-model", words), BEN)) for words in ("one", "two")]
    assert [job.result.words for job in told] == ["one", "two"]
    assert len({job.result.pid for job in told} | {first}) == 2  # a second worker, which stays
    found = lanes.get(waiting.key)
    assert found is not None and (found.state, found.position) == ("queued", 1)
    lanes.cancel(long.key)
    assert finished(lanes, waiting).state == "done"


def test_the_second_worker_goes_when_it_has_had_nothing_to_do(lanes: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_lane, "IDLE", 0.05)
    long = lanes.submit(toys.Sum("a-model", (-1,)))
    first = running(lanes, long)
    quick = finished(lanes, lanes.submit(toys.Murmur("a-model", "one")))
    assert quick.result.pid != first
    until(lambda: lanes._second.worker is None)
    again = finished(lanes, lanes.submit(toys.Murmur("a-model", "two")))
    assert again.result.pid not in (first, quick.result.pid)
    assert (job := lanes.get(long.key)) is not None and job.state == "running"


def test_what_is_quick_has_a_shorter_time(lanes: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_settings, "QUICK_TIME_LIMIT", 0.2)
    job = finished(lanes, lanes.submit(toys.Murmur("a-model", "wait")))
    assert isinstance(job.error, TimedOut) and "0.2 s" in job.error.message


def test_one_worker_does_where_nothing_runs_at_once(lanes: Jobs) -> None:
    quick = finished(lanes, lanes.submit(toys.Murmur("a-model", "one")))
    assert finished(lanes, lanes.submit(toys.Sum("a-model", (1, 2)))).state == "done"
    again = finished(lanes, lanes.submit(toys.Murmur("a-model", "two")))
    assert quick.result.pid == again.result.pid
    assert quick.result.nice == max(5, os.nice(0))
    assert again.result.nice == max(10, os.nice(0))  # it stood back for the sum


def test_whoever_waits_beside_others_leaves_and_the_last_one_ends_it(bench: Bench) -> None:
    jobs = bench.jobs()
    anne, ben, cleo = (Desk(jobs, each) for each in (ANNE, BEN, CLEO))
    key = anne.submit(spec("wait")).key
    assert ben.submit(spec("wait")).visitors == 2
    seen = cleo.get(key)  # opens a link
    assert seen is not None and (seen.others, seen.abandoned) == (2, False)
    assert not cleo.cancel(key)
    seen = cleo.get(key)
    assert seen is not None and seen.active and (seen.others, seen.abandoned) == (2, True)
    assert not anne.cancel(key)
    seen = ben.get(key)
    assert seen is not None and seen.active and seen.others == 0
    assert ben.cancel(key)
    assert isinstance(finished(jobs, seen).error, Cancelled)


def test_whoever_only_looked_and_went_away_holds_nothing_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = bench.jobs()
    anne, cleo = Desk(jobs, ANNE), Desk(jobs, CLEO)
    key = anne.submit(spec("wait")).key
    assert cleo.get(key) is not None
    assert (seen := anne.get(key)) is not None and seen.others == 1
    monkeypatch.setattr(engine_job, "GONE", -1.0)
    assert (seen := anne.get(key)) is not None and seen.others == 0
    assert anne.cancel(key)


def test_whoever_asked_and_closed_the_page_still_has_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_job, "GONE", -1.0)
    jobs = bench.jobs()
    key = Desk(jobs, ANNE).submit(spec("wait")).key
    assert not Desk(jobs, CLEO).cancel(key)
    job = jobs.get(key)
    assert job is not None and job.active


def test_the_wait_is_told_from_how_long_others_took(bench: Bench) -> None:
    jobs = bench.jobs()
    running(jobs, jobs.submit(spec("wait")))
    second = jobs.submit(spec("second"))
    assert second.wait is None  # nothing has run yet
    jobs._durations.note("compare", "a-model", 60.0)
    third = jobs.submit(spec("third"))
    assert third.position == 2 and third.wait is not None and 100 < third.wait <= 120
    bench.open_gate()
    finished(jobs, third)
    assert jobs._durations.expect(spec()) is not None


def test_durations_are_medians_of_the_model_or_else_of_the_kind() -> None:
    durations = Durations()
    assert durations.expect(spec()) is None
    for model, seconds in (("a-model", 1.0), ("a-model", 3.0), ("a-model", 100.0), ("other", 7.0)):
        durations.note("compare", model, seconds)
    assert durations.expect(spec()) == 3.0
    assert durations.expect(Spec("a third")) == 5.0
    for number in range(1000):
        durations.note("compare", str(number), 1.0)
    assert len(durations._seconds) <= 500 + 1


def test_a_job_that_takes_too_much_memory_is_ended_and_the_limit_is_named(lanes: Jobs) -> None:
    lanes._lanes[0]._memory = 64 << 20
    job = finished(lanes, lanes.submit(toys.Hoard("a-model", gib=1)))
    assert job.state == "failed" and job.error is not None
    assert "memory limit of 64 MiB" in job.error.message and "QFUND_WORKER_GIB" in job.error.remedy
    assert finished(lanes, lanes.submit(toys.Sum("a-model", (1,)))).state == "done"


def test_a_worker_that_fails_half_way_through_an_import_is_replaced(lanes: Jobs) -> None:
    """The first failure is told as it is; what comes after it is done by another worker, as by a new one."""
    failed = finished(lanes, lanes.submit(toys.Import("a-model", "tests.engine.broken")))
    assert failed.state == "failed" and "ZeroDivisionError" in str(failed.error)
    after = finished(lanes, lanes.submit(toys.Sum("a-model", (1, 2))))
    assert after.result == toys.Total(3, nth=1)
    missing = finished(lanes, lanes.submit(toys.Import("a-model", "no_such_module")))
    assert "no_such_module" in str(missing.error)
    assert finished(lanes, lanes.submit(toys.Sum("a-model", (3, 4)))).result == toys.Total(7, nth=2)


def test_a_job_that_a_dying_worker_never_began_is_done_by_another(bench: Bench) -> None:
    jobs = bench.jobs()
    finished(jobs, jobs.submit(spec("farewell")))
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"
    assert bench.log().count("start") == 2
