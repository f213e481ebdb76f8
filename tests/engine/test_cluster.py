"""Jobs on a cluster of three machines, which are processes here: where they land, and what becomes of them."""

import json
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from benchmarks.serving import ROOT, served
from qfund.core.errors import Cancelled, EngineError, OutOfBudget, QfundError, UsageError
from qfund.engine import cluster, lane, messages
from qfund.engine.cluster import driver, task
from qfund.engine.cluster.needs import Needs, placed
from qfund.engine.cluster.task import Order, work
from qfund.engine.job import GONE_MACHINE, Job, Record
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.process import ATTEMPTS
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from qfund.engine.worker import Channel
from qfund.version import VERSION
from tests.engine import clustered
from tests.engine.clustered import GIB, HANDS_OVER, KIND, Machines, Stay
from tests.engine.databases import execute, url_of
from tests.engine.test_engine import finished
from tests.engine.toys import TOYS, Hoard, Shout, Sum
from tests.patience import PATIENCE, Clock, until


@pytest.fixture(scope="module")
def machines() -> Machines:
    return clustered.machines()


@pytest.fixture(scope="module")
def jobs(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A server whose connections to the cluster are used again by all tests but the one that ends it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QFUND_RAY_ADDRESS", machines.address)
        patch.setitem(KINDS, KIND.name, KIND)
        made = server(tmp_path_factory.mktemp("server"))
        yield made
        made.close()


def server(folder: Path) -> Jobs:
    store = Store(f"sqlite:///{folder}/qfund.db")
    return Jobs(store, cluster=HANDS_OVER, places=100, ledger=Ledger(store))


def at_work(jobs: Jobs, job: Job, attempts: int = 1) -> tuple[int, str]:
    """Wait until a machine has told that it is at work: the process there, and the machine."""

    def told() -> bool:
        found = jobs.get(job.key)
        assert found is not None and found.active, found
        return found.phase.startswith("pid ") and found.attempts == attempts

    until(told)
    found = jobs.get(job.key)
    assert found is not None
    _, pid, machine = found.phase.split()
    return int(pid), machine


def there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_job_lands_where_its_memory_is_and_one_for_which_there_is_none_says_what_there_is(jobs: Jobs) -> None:
    done = finished(jobs, jobs.submit(Stay("large", 5.0)))
    assert done.error is None and done.result.machine == "large" and done.result.threads == "1"
    refused = finished(jobs, jobs.submit(Stay("too large", 40.0)))
    assert isinstance(refused.error, OutOfBudget)
    assert "40 GiB" in refused.error.message and "the largest has 6 GiB, 4 CPU" in refused.error.message


def test_many_small_ones_share_the_machines_and_whoever_waits_is_told_so(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    many = [jobs.submit(Stay(f"small {number}", 0.5, str(gate))) for number in range(10)]
    for job in many[:4]:
        at_work(jobs, job)
    gate.unlink()
    done = [finished(jobs, job) for job in many]
    assert [job.error for job in done] == [None] * 10
    assert [job.result.model for job in done] == [f"small {number}" for number in range(10)]


def test_cancelling_ends_what_runs_on_the_other_machine(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    job = jobs.submit(Stay("to be cancelled", gate=str(gate)))
    pid, _ = at_work(jobs, job)
    assert there(pid) and jobs.cancel(job.key)
    assert isinstance(finished(jobs, job).error, Cancelled)
    until(lambda: not there(pid))


def test_the_time_limit_begins_when_a_machine_does(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, clock, seen = tmp_path / "gate", Clock(), Counter[str]()
    gate.touch()
    first = jobs.submit(Stay("first", 5.0, str(gate)))
    at_work(jobs, first)
    note = jobs.note

    def noted(record: Record, *, beat: bool = False) -> None:
        seen[record.job.key] += beat
        note(record, beat=beat)

    monkeypatch.setattr(lane, "time", clock)
    monkeypatch.setattr(jobs, "note", noted)  # whoever ends what takes too long says so whenever they look
    monkeypatch.setattr(jobs, "_time_limit", 2 * PATIENCE)
    second = jobs.submit(Stay("second", 5.0))
    until(lambda: (found := jobs.get(second.key)) is not None and "waiting for a machine with 5 GiB" in found.phase)
    clock.passed = 3 * PATIENCE
    looked = seen[second.key]
    until(lambda: seen[second.key] > looked + 1)
    gate.unlink()
    assert finished(jobs, first).error is None and finished(jobs, second).error is None


def test_a_job_whose_machine_is_gone_runs_again_elsewhere_and_is_done_once(
    jobs: Jobs, machines: Machines, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    gate.touch()
    job = jobs.submit(Stay("m", 1.5, str(gate), str(log)))
    pid, machine = at_work(jobs, job)
    machines.remove(machine)
    try:
        _, other = at_work(jobs, job, attempts=2)
        found = jobs.get(job.key)
        assert found is not None and found.again == GONE_MACHINE and other != machine
        until(lambda: not there(pid))
        gate.unlink()
        done = finished(jobs, job)
        assert done.error is None and done.result.machine == other and done.attempts == 2
        assert log.read_text() == f"m {machine}\nm {other}\n"
    finally:
        machines.nodes[machine] = machines.add(machine)


@pytest.mark.usefixtures("jobs")
def test_a_server_that_is_started_again_finds_its_jobs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    before = server(tmp_path)
    job = before.submit(Stay("m", gate=str(gate)))
    pid, _ = at_work(before, job)
    before.close()
    until(lambda: not there(pid))
    after = server(tmp_path)
    try:
        assert after.resume()
        at_work(after, job, attempts=2)
        gate.unlink()
        assert finished(after, job).error is None
    finally:
        after.close()


# All parts of deploy/, as processes.


def ask(address: str, document: object = None) -> dict[str, Any]:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"} if data else {})
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer))


def test_two_web_servers_compute_what_both_are_asked_for_once_on_the_cluster_and_both_show_it(
    machines: Machines, tmp_path: Path
) -> None:
    url = url_of("postgres", tmp_path)
    settings = {"QFUND_DATABASE_URL": url, "QFUND_ENGINE": "ray", "QFUND_RAY_ADDRESS": machines.address}
    file = tmp_path / "one.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_tensor("output.weight", np.ones((32, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    document = {"file": str(file)}  # what needs no torch, so that the test takes seconds
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(served(ROOT / "app.py", tmp_path / name, settings=settings)) + "/api/v1/audit"
            for name in ("one", "two")
        )
        asked = ask(one, document)
        assert asked["state"] in ("queued", "running")
        joined = ask(two, document)
        assert joined["key"] == asked["key"]
        store, jobs = Store(url), "SELECT state, attempts FROM qfund_jobs WHERE kind = 'audit'"
        until(lambda: execute(store, jobs)[0][0] not in ("queued", "running"))
        first, second = ask(one, document), ask(two, document)
    assert first["state"] == second["state"] == "done" and first["result"] == second["result"]
    assert [row["name"] for row in first["result"]["tensors"]] == ["output.weight"]
    assert execute(store, jobs) == [("done", 1)]


# Without a cluster.


def test_fewer_processors_will_do_but_not_less_memory_or_another_gpu() -> None:
    small = {"memory": 4.0 * GIB, "CPU": 2.0}
    large = {"memory": 64.0 * GIB, "CPU": 16.0, "GPU": 1.0, "accelerator_type:H100": 1.0}
    head = {"memory": 512.0 * GIB, "CPU": 0.0}
    assert placed(Needs(2 * GIB, 8), [small, head]) == Needs(2 * GIB, 2)
    assert placed(Needs(2 * GIB, 8), [small, large]) == Needs(2 * GIB, 8)
    assert placed(Needs(2 * GIB, 1, 1, "H100"), [small, large]).options() == {
        "memory": 2 * GIB,
        "num_cpus": 1,
        "num_gpus": 1,
        "accelerator_type": "H100",
    }
    with pytest.raises(OutOfBudget, match="65 GiB of memory, and the cluster has none: the largest has 64 GiB, 16 CPU"):
        placed(Needs(65 * GIB), [small, large, head])
    with pytest.raises(OutOfBudget, match=r"2 GiB of memory and 1 A100, .* 64 GiB, 16 CPU, 1 GPU"):
        placed(Needs(2 * GIB, 1, 1, "A100"), [small, large])
    with pytest.raises(OutOfBudget, match="the largest has 4 GiB, 2 CPU, no GPU"):
        placed(Needs(2 * GIB, 1, 1), [small])
    with pytest.raises(OutOfBudget, match="no machine for jobs"):
        placed(Needs(1), [head])


def test_a_job_takes_the_gpu_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_DEVICE", "cuda:3")  # of this machine
    assert driver.carried(Needs(GIB, 1, 1))["QFUND_DEVICE"] == "cuda"
    monkeypatch.setenv("QFUND_DEVICE", "cpu")
    assert driver.carried(Needs(GIB))["QFUND_DEVICE"] == "cpu"


class Listening(Channel):
    """What a driver has said."""

    def __init__(self) -> None:
        self.said: list[messages.Event] = []

    def send(self, event: messages.Event) -> None:
        self.said.append(event)


def driven(monkeypatch: pytest.MonkeyPatch, *runs: Sequence[messages.Event]) -> list[messages.Event]:
    """What a driver says whose machines say this in turn, and then are gone."""
    channel, left = Listening(), list(runs)

    def say(*_: object, again: bool) -> Iterator[messages.Event]:
        yield messages.Waiting("waiting", again)
        yield from left.pop(0)
        raise driver._Gone

    made = driver.Driver(channel, "module")
    monkeypatch.setattr(made, "connect", lambda: None)
    monkeypatch.setattr(made, "_nodes", lambda: [{"memory": 8.0 * GIB, "CPU": 4.0}])
    monkeypatch.setattr(made, "_events", say)
    made.perform(KIND, Stay("m"), b"line")
    assert not left
    return channel.said


def test_a_machine_that_is_gone_after_it_has_told_the_result_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a driver says then would be taken for the next job's."""
    half, done = messages.Progress("half", 0.5), messages.Done(messages.document(1))
    asking, first, second = (
        messages.Waiting(*each) for each in (("asking the cluster",), ("waiting",), ("waiting", True))
    )
    assert driven(monkeypatch, [half, done]) == [asking, first, half, done]
    assert driven(monkeypatch, [half], [done]) == [asking, first, half, second, done]
    with pytest.raises(EngineError, match="gone, 3 in turn"):
        driven(monkeypatch, [half], [half], [])


def order(kind: str, request: object, **changes: Any) -> Order:
    line = messages.line(messages.Measure(kind, messages.document(request)))
    usual: dict[str, Any] = {"settings": {}, "memory": GIB, "version": VERSION, "here": str(ROOT)} | changes
    return Order("tests.engine.toys", line, **usual)


def events(asked: Order) -> list[messages.Event]:
    return [messages.event(line) for line in work(asked)]


def failure(asked: Order) -> QfundError:
    last = events(asked)[-1]
    assert isinstance(last, messages.Failed)
    return last.exception()


def test_a_machine_that_has_another_qfund_or_does_not_see_the_checkpoint_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shout = Shout("m", "words")
    assert "has qfund" in failure(order("shout", shout, version="0.0")).message
    unseen = order("shout", shout, folder="/no/such/folder")
    assert "does not see /no/such/folder" in str(failure(unseen)) and "same path" in str(failure(unseen))
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    assert "/no/such/folder" not in str(failure(unseen))


def test_a_machines_worker_does_the_next_job_like_it_and_is_ended_at_its_memory() -> None:
    try:
        nths = []
        for settings in ({"A": "1"}, {"A": "1"}, {"A": "2"}):
            last = events(order("sum", Sum("m", (1, 2)), settings=settings))[-1]
            assert isinstance(last, messages.Done)
            nths.append(TOYS["sum"].read_result(last.result).nth)
        assert nths == [1, 2, 1]  # how many that process has done
        ended = failure(order("hoard", Hoard("m", 2), memory=256 << 20))
        assert isinstance(ended, OutOfBudget) and "256 MiB" in ended.message
    finally:
        task._drop(task._Idle.process)


def test_a_machines_worker_that_is_killed_has_another_one_in_its_place() -> None:
    begun = work(order("sum", Sum("m", (-1,))))  # which waits for ever, and says who it is
    pids = []
    for line in begun:
        event = messages.event(line)
        if isinstance(event, messages.Progress) and event.phase.startswith("pid "):
            pids.append(int(event.phase.split()[1]))
            os.kill(pids[-1], signal.SIGKILL)
    assert len(set(pids)) == ATTEMPTS and isinstance(event, messages.Failed) and "SIGKILL" in event.message


@pytest.mark.parametrize(
    ("engine", "address", "words"),
    [("dask", "head:6379", "'dask'"), ("ray", "", "no cluster is named"), ("ray", "ray://head:10001", "Ray's client")],
)
def test_settings_that_name_no_cluster_are_refused(
    engine: str, address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFUND_ENGINE", engine)
    monkeypatch.setenv("QFUND_RAY_ADDRESS", address)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UsageError, match=words):
        cluster.chosen()


def test_without_a_word_jobs_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("QFUND_RAY") or name == "QFUND_ENGINE"]:
        monkeypatch.delenv(name)
    assert cluster.chosen() is None
