"""Jobs that are written down: what another server, or the same one started again, makes of them."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.core.errors import CorruptCheckpoint
from qfund.engine.job import Visitor
from qfund.engine.jobs import Desk, Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.process import ATTEMPTS
from qfund.engine.shared import ledger as engine_ledger
from qfund.engine.shared import servers
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from tests.engine import databases, killed
from tests.engine.databases import execute, url_of
from tests.engine.test_engine import Bench, finished, running, spec

ANNE = Visitor("anne", "10.0.0.1")


@pytest.fixture(params=databases.KINDS)
def shared(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Servers that share a database."""
    made = Bench(tmp_path, Store(url_of(request.param, tmp_path / "qfund.db")))
    yield made
    for jobs in made.made:
        jobs.close()


def server(shared: Bench) -> Jobs:
    return shared.jobs(ledger=Ledger(shared.store))


def states(shared: Bench) -> list[tuple[object, ...]]:
    return execute(shared.store, "SELECT state, attempts, visitor FROM qfund_jobs ORDER BY submitted")


def test_a_job_is_written_down_as_it_goes_and_by_whom(shared: Bench) -> None:
    jobs = server(shared)
    first, second = jobs.submit(spec("wait"), ANNE), jobs.submit(spec("fail"), ANNE)
    running(jobs, first)
    assert states(shared) == [("running", 1, "anne"), ("queued", 1, "anne")]
    shared.open_gate()
    finished(jobs, second)
    jobs.close()
    assert states(shared) == [("done", 1, "anne"), ("failed", 1, "anne")]


def test_an_interrupted_job_is_begun_again_and_those_that_waited_too(shared: Bench) -> None:
    jobs = server(shared)
    first, second = jobs.submit(spec("wait"), ANNE), jobs.submit(spec("second"), ANNE)
    running(jobs, first)
    jobs.close()
    after = server(shared)
    assert after.resume() and not after.resume()
    again = after.get(first.key)
    assert again is not None and again.active and again.attempts == 2
    running(after, first)
    assert Desk(after, ANNE).get(first.key).others == 0  # type: ignore[union-attr]  # it is still hers
    shared.open_gate()
    assert finished(after, first).state == finished(after, second).state == "done"
    assert [(job.attempts) for key in (first.key, second.key) if (job := after.get(key))] == [2, 1]
    assert shared.log() == ["start", "wait", "start", "wait", "second"]


def test_whoever_opens_the_page_of_an_interrupted_job_has_it_begun_again(shared: Bench) -> None:
    jobs = server(shared)
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    jobs.close()
    after = server(shared)
    found = after.get(job.key)
    assert found is not None and found.active and found.attempts == 2


def test_a_job_that_ended_the_server_again_and_again_is_said_to_be_lost(shared: Bench) -> None:
    for _ in range(ATTEMPTS):
        jobs = server(shared)
        jobs.resume()
        job = jobs.submit(spec("wait"))
        running(jobs, job)
        jobs.close()
    after = server(shared)
    assert not after.resume()
    lost = after.get(job.key)
    assert lost is not None and lost.state == "lost" and lost.error is not None
    assert (
        f"in the middle of this job, {ATTEMPTS} times" in lost.error.message and "start it again" in lost.error.remedy
    )
    again = after.submit(spec("wait"))
    assert again.active and again.attempts == 1
    running(after, again)
    shared.open_gate()
    assert finished(after, again).state == "done"


def test_a_result_that_is_there_ends_its_job_whoever_measured_it(shared: Bench) -> None:
    jobs = server(shared)
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    jobs.close()
    donor = shared.jobs()
    shared.store.put(KINDS["compare"], job.key, finished(donor, donor.submit(spec("other"))).result)
    after = server(shared)
    assert not after.resume() and after.get(job.key) is None
    assert states(shared) == [("done", 1, "")]


def test_a_failure_is_remembered_for_a_day_by_a_server_that_is_started_again(
    shared: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = server(shared)
    job = finished(jobs, jobs.submit(spec("fail")))
    jobs.close()
    after = server(shared)
    found = after.get(job.key)
    assert found is not None and isinstance(found.error, CorruptCheckpoint) and str(found.error) == str(job.error)
    monkeypatch.setattr(engine_ledger, "REMEMBERED", -1.0)
    assert after.get(job.key) is None


def test_two_servers_measure_one_request_once(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    job = one.submit(spec("wait"))
    running(one, job)
    there = two.submit(spec("wait"))
    assert (there.state, there.key) == ("running", job.key)
    assert not two.resume() and not two.cancel(job.key)
    shared.open_gate()
    finished(one, job)
    assert shared.log() == ["start", "wait"]
    assert two.get(job.key) is None and shared.store.get(KINDS["compare"], job.key) is not None


def test_a_server_on_another_machine_is_there_while_it_gives_signs() -> None:
    elsewhere = "elsewhere 17 4711 nonce"
    assert servers.alive(elsewhere, time.time() - servers.LEASE / 2)
    assert not servers.alive(elsewhere, time.time() - servers.LEASE * 2)
    here = servers.begin()
    assert servers.alive(here, 0.0)
    servers.end(here)
    assert not servers.alive(here, time.time())
    host, _, started, nonce = here.split()
    assert not servers.alive(f"{host} 1 {started} {nonce}", time.time())  # another process has that number now
    assert servers.alive("nonsense", time.time()) and not servers.alive("nonsense", 0.0)


def test_a_model_that_changed_meanwhile_is_not_measured_in_its_place(shared: Bench) -> None:
    jobs = server(shared)
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    jobs.close()
    after = shared.jobs(ledger=Ledger(shared.store), identify=lambda spec: "other weights")
    after.resume()
    found = after.get(job.key)
    assert found is not None and found.state == "failed" and "model changed" in str(found.error)


def test_what_a_later_qfund_asked_for_is_said_to_be_lost(shared: Bench) -> None:
    jobs = server(shared)
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    jobs.close()
    execute(shared.store, "UPDATE qfund_jobs SET request = :request", request='{"unheard": 1}')
    after = server(shared)
    assert not after.resume()
    assert [state for state, *_ in states(shared)] == ["lost"]


def test_a_database_that_refuses_holds_no_job_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").touch()
    made = Bench(tmp_path, Store(f"sqlite:///{tmp_path}/a file/qfund.db"))
    jobs = server(made)
    assert not jobs.resume()
    job = finished(jobs, jobs.submit(spec()))
    assert job.state == "done" and job.warning is not None
    jobs.close()


def test_the_wait_is_told_from_jobs_of_an_earlier_server(shared: Bench) -> None:
    jobs = server(shared)
    finished(jobs, jobs.submit(spec("do")))
    jobs.close()
    assert server(shared)._durations.expect(spec()) is not None


def test_a_server_that_is_killed_at_any_moment_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few and short here; ``benchmarks.killed`` has more."""
    monkeypatch.setitem(KINDS, killed.KIND.name, killed.KIND)
    found = killed.ordeal(tmp_path, 8, 0.05, 2, random.Random(7))
    assert found == killed.Outcome(8, 0, 0, 0)
