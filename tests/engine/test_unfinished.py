"""What is kept of a result before it is whole: whatever ends a job, and until the whole is there."""

import signal

import pytest

from qfund.core.progress import Progress, Sharing
from qfund.engine import compute, key_of, lane, unfinished
from qfund.engine.jobs import Job
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from tests.engine.test_engine import Bench, MemoryStore, bench, finished, spec, store
from tests.features.compare.reports import make_report
from tests.patience import until

__all__ = ["bench", "store"]  # fixtures

COMPARE = KINDS["compare"]


def running(bench: Bench, text: str, **settings: object) -> Job:
    """A job that has told a result and works on."""
    jobs = bench.jobs(**settings)
    job = jobs.submit(spec(text))
    until(lambda: (found := jobs.get(job.key)) is not None and (found.so_far is not None or not found.active))
    return job


def test_what_is_told_is_there_while_it_works_and_gone_when_it_is_done(bench: Bench, store: MemoryStore) -> None:
    job = running(bench, "sofar wait")
    (jobs,) = bench.made
    at_work = jobs.get(job.key)
    assert at_work is not None and at_work.so_far.partial and at_work.state == "running"
    assert unfinished.find(store, COMPARE, job.key) == at_work.so_far
    assert store.get(COMPARE, job.key) is None
    bench.open_gate()
    assert finished(jobs, job).state == "done"
    assert store.get(COMPARE, job.key) is not None


@pytest.mark.parametrize("way", ["cancel", "time limit", "kill"])
def test_whatever_ends_it_leaves_what_was_told(
    way: str, bench: Bench, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "REST", 0.0)
    text = f"sofar die {signal.SIGKILL.value}" if way == "kill" else "sofar stubborn"
    job = running(bench, text, **({"time_limit": 3.0} if way == "time limit" else {}))
    (jobs,) = bench.made
    if way == "cancel":
        jobs.cancel(job.key)
    assert finished(jobs, job).state == ("cancelled" if way == "cancel" else "failed")
    left = unfinished.find(store, COMPARE, job.key)
    assert isinstance(left, Report) and left.partial


def test_a_command_that_is_stopped_leaves_it_too_and_the_whole_takes_its_place(tmp_path: object) -> None:
    store, asked = Store(f"sqlite:///{tmp_path}/qfund.db"), Spec("a-model")
    told: list[int] = []

    def measure(request: Spec, progress: Progress) -> Report:
        assert isinstance(progress, Sharing)
        progress.so_far(make_report())
        if not told:
            told.append(1)
            raise KeyboardInterrupt
        return make_report()

    def identify(request: Spec) -> str:
        return "weights"

    key = key_of(asked, identify)
    with pytest.raises(KeyboardInterrupt):
        compute(asked, store=store, measure=measure, identify=identify)
    assert unfinished.find(store, COMPARE, key) == make_report()
    assert store.get(COMPARE, key) is None and store.listed(COMPARE) == []
    compute(asked, store=store, measure=measure, identify=identify)
    assert store.get(COMPARE, key) == make_report()
    assert unfinished.find(store, COMPARE, key) is None
