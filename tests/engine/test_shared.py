"""Several servers with one PostgreSQL: who sees what of whose jobs, and what becomes of them when a server or the
database is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.core.errors import Cancelled, QueueFull
from qfund.engine.job import Visitor
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.shared import ledger, servers, watch
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from tests.engine.databases import execute, postgres, url_of
from tests.engine.test_engine import Bench, finished, running, spec
from tests.patience import PATIENCE, until

ANNE, BOB, NEW = Visitor("anne", "10.0.0.1"), Visitor("bob", "10.0.0.2"), Visitor("new", "10.0.0.3")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(ledger, "SHARED_BEAT", 0.05)
    monkeypatch.setattr(watch, "AGAIN", 0.1)
    monkeypatch.setattr(watch, "LOOK", 0.1)
    made = Bench(tmp_path, Store(url_of("postgres", tmp_path)))
    yield made
    for jobs in made.made:
        jobs.close()


def server(shared: Bench, **settings: object) -> Jobs:
    store = Store(shared.store._url)
    jobs = shared.jobs(**{"ledger": Ledger(store)} | settings)
    jobs._store = jobs._watch._store = store
    jobs.look_after()
    return jobs


def state(shared: Bench, key: str) -> str:
    return str(execute(shared.store, "SELECT state FROM qfund_jobs WHERE key = :key", key=key)[0][0])


def test_the_second_server_sees_how_far_the_first_is_and_then_the_result(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    job = one.submit(spec("wait"), ANNE)
    running(one, job)
    assert two.submit(spec("wait"), BOB).key == job.key
    running(two, job)  # what the worker has told
    assert (moment := two.get(job.key, BOB)) is not None and moment.share == 0.25 and moment.others == 1
    shared.open_gate()
    assert two.wait(job.key, PATIENCE) is None  # it has ended, and its result is where results are
    assert two._store.get(KINDS["compare"], job.key) is not None
    assert shared.log() == ["start", "wait"]


def test_whoever_asked_for_a_job_ends_it_at_any_server_and_nobody_else_does(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    job, after = one.submit(spec("wait"), ANNE), one.submit(spec("after"), ANNE)
    running(one, job)
    assert not two.cancel(job.key, BOB) and not two.cancel("no such job", ANNE)
    assert two.cancel(job.key, ANNE)
    assert isinstance(finished(one, job).error, Cancelled)
    assert (seen := two.get(job.key)) is not None and seen.state == "cancelled"
    until(lambda: state(shared, after.key) == "done")  # by whichever
    assert state(shared, job.key) == "cancelled"


def test_a_job_that_others_wait_for_goes_on_when_it_is_left_at_another_server(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    job = one.submit(spec("wait"), ANNE)
    one.submit(spec("wait"), BOB)
    running(one, job)
    assert two.cancel(job.key, ANNE)
    until(lambda: state(shared, job.key) == "running")
    assert (found := one.get(job.key, ANNE)) is not None and found.active and found.abandoned
    shared.open_gate()
    assert finished(one, job).state == "done" and state(shared, job.key) == "done"


def test_a_visitors_places_are_counted_over_all_servers(shared: Bench) -> None:
    one, two = server(shared, places=2), server(shared, places=2)
    running(one, one.submit(spec("wait"), ANNE))
    one.submit(spec("wait", 2), ANNE)  # here or there
    with pytest.raises(QueueFull, match="2 of your jobs"):
        two.submit(spec("third"), ANNE)
    assert two.submit(spec("third"), BOB).active


def test_what_a_server_on_a_machine_that_is_gone_had_is_done_by_another_one_unasked(
    shared: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LEASE", 1.0)
    one = server(shared)
    job, second = one.submit(spec("wait"), ANNE), one.submit(spec("second"), ANNE)
    running(one, job)
    one.close()
    execute(shared.store, "UPDATE qfund_jobs SET server = 'elsewhere 17 4711 nonce'")
    two = server(shared)
    until(lambda: (found := two.get(job.key)) is not None and found.attempts == 2 and found.state == "running")
    running(two, job)
    shared.open_gate()
    assert finished(two, job).state == "done"
    until(lambda: state(shared, second.key) == "done")
    assert shared.log()[:2] == ["start", "wait"] and sorted(shared.log()[2:]) == ["second", "start", "wait"]


def test_a_database_that_is_killed_in_the_middle_loses_nothing(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    job = one.submit(spec("wait"), ANNE)
    running(one, job)
    postgres().kill()
    try:
        late = one.submit(spec("wait", 1), ANNE)  # it is done, and written down later
        shared.open_gate()
        done = finished(one, job)
        assert done.state == "done" and done.warning is not None and "does not answer" in done.warning
        running(one, late)
    finally:
        postgres().start()
    until(lambda: state(shared, job.key) == "done")
    assert two._store.get(KINDS["compare"], job.key) is not None
    until(lambda: (kept := one.get(job.key)) is not None and kept.warning is None)
    until(lambda: (seen := two.get(late.key)) is not None and seen.state == "running")
    shared.open_gate()
    assert finished(one, late).state == "done" and state(shared, late.key) == "done"
    assert shared.log() == ["start", "wait", "wait"]
