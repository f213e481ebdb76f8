"""Jobs, the worker process and what they say to each other. No torch: workers are fakes, or the real one with a fake
measure."""

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.errors import (
    ERRORS,
    Cancelled,
    CorruptCheckpoint,
    EngineError,
    InvalidInput,
    InvalidSpec,
    ModelError,
    ModelNotFound,
    OutOfBudget,
    QfundError,
    QueueFull,
    StoreError,
    TimedOut,
    UnknownName,
    UsageError,
    WorkerDied,
)
from qfund.core.feature import Kind, lazily
from qfund.core.progress import Streaming
from qfund.core.request import Request
from qfund.engine import compute, keep, key_of, messages
from qfund.engine import jobs as engine_jobs
from qfund.engine import lane as engine_lane
from qfund.engine import process as engine_process
from qfund.engine.jobs import Job, Jobs
from qfund.engine.kinds import KINDS, kind_of
from qfund.engine.process import Process
from qfund.engine.store import Store
from qfund.engine.worker import Channel, Reporter
from qfund.features.compare.request import report as report_request
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from tests.engine.toys import TOYS, Shout, Shouted, Sum, Total
from tests.features.compare.reports import make_report
from tests.patience import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]

COMPARE = KINDS["compare"]


class MemoryStore(Store):
    """A store without a database; ``refuses`` makes its calls fail."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.kept: dict[str, Any] = {}
        self.refuses: set[str] = set()

    def get(self, kind: Kind, key: str) -> Any | None:
        if "get" in self.refuses:
            raise StoreError("The disk hums.", "Listen.")
        return self.kept.get(key)

    def put(self, kind: Kind, key: str, result: Any) -> None:
        if "put" in self.refuses:
            raise StoreError("The disk is full.", "Free some space.")
        self.kept[key] = result


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


# Jobs, with a worker of a few lines. What it does is chosen by the first word of the input text.

FAKE = """
import json, os, signal, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
report = json.load(open(here + "/report.json"))
say = lambda **message: print(json.dumps(message), flush=True)

def log(word):
    with open(here + "/log", "a") as file:
        file.write(word + "\\n")

log("start")
say(type="ready")
for line in sys.stdin:
    request = json.loads(line)
    if request["type"] == "warm":
        log("warm")
        continue
    what, *rest = (request["request"]["text"] or "do").split()
    log(what)
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(type="progress", phase=f"pid {os.getpid()}", share=0.25)
    if what == "sofar":
        say(type="so far", result=report | {"spec": request["request"], "partial": True, "planned": 100})
        what = rest.pop(0)
    if what == "wait":
        open(here + "/gate").read()
    elif what == "stubborn":
        open(here + "/never").read()
    elif what == "fail":
        say(type="failed", error="CorruptCheckpoint", message="The file is cut off.", remedy="Get it again.")
        continue
    elif what == "spent":
        say(type="failed", error="OutOfBudget", message="Too large.", spent=True)
        continue
    elif what == "die":
        os.kill(os.getpid(), int(rest[0]))
    elif what == "leave":
        sys.exit(int(rest[0]))
    elif what == "garbage":
        print("Loading weights: 100%", flush=True)
    elif what == "child":
        subprocess.Popen(["sh", "-c", f"exec sleep 600 > {here}/gate"])
        open(here + "/never").read()
    elif what == "malformed":
        say(type="done", result={"words": "no report"})
        continue
    say(type="done", result=report | {"spec": request["request"]})
    if what == "farewell":
        sys.stdin.close()
        os.close(0)
        sys.exit()
"""


class Bench:
    """Jobs in a folder with a fake worker, and what that worker has written down."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        (folder / "worker.py").write_text(FAKE)
        (folder / "report.json").write_bytes(report_request.to_json(make_report()))
        os.mkfifo(folder / "gate")
        os.mkfifo(folder / "never")
        self.made: list[Jobs] = []

    def jobs(self, **settings: object) -> Jobs:
        command = [sys.executable, str(self.folder / "worker.py")]
        made = Jobs(self.store, **({"command": command, "identify": lambda spec: "weights"} | settings))  # type: ignore[arg-type]
        self.made.append(made)
        return made

    def log(self) -> list[str]:
        file = self.folder / "log"
        return file.read_text().split() if file.exists() else []

    def open_gate(self) -> None:
        """Let the worker that waits go on; blocks until there is one."""
        with (self.folder / "gate").open("w"):
            pass


@pytest.fixture
def bench(tmp_path: Path, store: MemoryStore) -> Iterator[Bench]:
    made = Bench(tmp_path, store)
    yield made
    for jobs in made.made:
        jobs.close()


def spec(text: str | None = None, tokens: int = 100) -> Spec:
    return Spec("a-model", text=text, max_tokens=tokens)


def finished(jobs: Jobs, job: Job) -> Job:
    found = jobs.wait(job.key, PATIENCE)
    assert found is not None and not found.active
    return found


def running(jobs: Jobs, job: Job) -> int:
    """Wait until the worker has told its process id; the id."""
    found = job

    def told() -> bool:
        nonlocal found
        found = jobs.get(job.key) or job
        return found.phase.startswith("pid ")

    until(told)
    return int(found.phase.split()[1])


def test_a_job_ends_with_a_report_that_is_stored(bench: Bench, store: MemoryStore) -> None:
    jobs = bench.jobs()
    asked = spec("naïve 🦙 \u2028 text")
    assert jobs.find(asked) is None
    job = finished(jobs, jobs.submit(asked))
    assert (job.state, job.share, job.error, job.warning, job.position) == ("done", 1.0, None, None, 0)
    assert job.result is not None and job.result.spec == asked
    assert store.kept == {key_of(asked, lambda spec: "weights"): job.result}
    assert job.started is not None and job.finished is not None
    assert job.submitted <= job.started <= job.finished
    assert jobs.find(asked) == job


def test_equal_submissions_are_one_computation(bench: Bench) -> None:
    jobs = bench.jobs()
    barrier = threading.Barrier(16)
    keys = []

    def visit(precisions: tuple[str, ...]) -> None:
        barrier.wait()
        keys.append(jobs.submit(replace(spec("wait"), precisions=precisions)).key)

    # Two ways to write the same comparison.
    orders = [("bf16", "int8"), ("int8", "bf16", "int8")] * 8
    threads = [threading.Thread(target=visit, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 16
    assert len(set(keys)) == 1
    bench.open_gate()
    job = jobs.wait(keys[0], PATIENCE)
    assert job is not None and job.state == "done"
    assert job.visitors == 16
    assert bench.log() == ["start", "wait"]


def test_equal_specs_of_other_weights_are_other_jobs(bench: Bench) -> None:
    weights = "before"
    jobs = bench.jobs(identify=lambda spec: weights)
    first = finished(jobs, jobs.submit(spec()))
    weights = "after"
    assert jobs.find(spec()) is None
    second = finished(jobs, jobs.submit(spec()))
    assert first.key != second.key


def test_a_finished_job_is_computed_anew_when_submitted_again(bench: Bench) -> None:
    jobs = bench.jobs()
    finished(jobs, jobs.submit(spec()))
    again = jobs.submit(spec())
    assert again.active and again.result is None and again.visitors == 1
    assert finished(jobs, again).state == "done"
    assert bench.log() == ["start", "do", "do"]


def test_progress_is_seen_in_whole_moments(bench: Bench) -> None:
    jobs = bench.jobs()
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    moment = jobs.get(job.key)
    assert moment is not None and (moment.state, moment.share) == ("running", 0.25)
    with pytest.raises(FrozenInstanceError):
        moment.share = 1.0  # type: ignore[misc]
    bench.open_gate()
    assert finished(jobs, job).share == 1.0
    assert moment.share == 0.25


def test_the_queue_is_bounded_and_cancelling_makes_room(bench: Bench) -> None:
    jobs = bench.jobs(capacity=2)
    first = jobs.submit(spec("wait"))
    second, third = jobs.submit(spec("second")), jobs.submit(spec("third"))
    with pytest.raises(QueueFull, match="2 waiting") as caught:
        jobs.submit(spec("fourth"))
    assert "Try again" in caught.value.remedy
    assert jobs.find(spec("fourth")) is None
    assert jobs.submit(spec("third")).visitors == 2  # to join is always possible
    running(jobs, first)
    assert [job.position for key in (first.key, second.key, third.key) if (job := jobs.get(key))] == [0, 1, 2]
    assert jobs.cancel(second.key)
    cancelled = jobs.get(second.key)
    assert cancelled is not None and cancelled.state == "cancelled" and isinstance(cancelled.error, Cancelled)
    moved = jobs.get(third.key)
    assert moved is not None and moved.position == 1
    fourth = jobs.submit(spec("fourth"))
    assert fourth.position == 2
    bench.open_gate()
    assert finished(jobs, fourth).state == "done"
    assert bench.log() == ["start", "wait", "third", "fourth"]


def test_cancelling_a_running_job_ends_its_worker_and_the_next_gets_another(bench: Bench) -> None:
    jobs = bench.jobs()
    job, after = jobs.submit(spec("wait")), jobs.submit(spec("after"))
    pid = running(jobs, job)
    assert jobs.cancel(job.key)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    cancelled = finished(jobs, job)
    assert cancelled.state == "cancelled" and isinstance(cancelled.error, Cancelled)
    done = finished(jobs, after)
    assert done.state == "done"
    assert bench.log() == ["start", "wait", "start", "after"]
    assert not jobs.cancel(job.key)
    assert not jobs.cancel("no such job")


def test_a_job_can_be_submitted_again_at_once_after_it_was_cancelled(bench: Bench) -> None:
    jobs = bench.jobs()
    job = jobs.submit(spec("wait"))
    first = running(jobs, job)
    jobs.cancel(job.key)
    again = jobs.submit(spec("wait"))
    assert again.key == job.key and again.visitors == 1
    assert running(jobs, again) != first
    bench.open_gate()
    assert finished(jobs, again).state == "done"


def test_cancelling_at_any_moment_harms_no_other_job(bench: Bench) -> None:
    jobs = bench.jobs()
    for i in range(12):
        victim, after = jobs.submit(spec("victim")), jobs.submit(spec("after"))
        time.sleep(i * 0.004)  # from before a worker is there until long after the end
        jobs.cancel(victim.key)
        assert finished(jobs, victim).state in ("cancelled", "done")
        job = finished(jobs, after)
        assert job.state == "done", job.error


def test_a_job_that_is_cancelled_while_its_worker_starts_is_not_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting, go_on = threading.Event(), threading.Event()

    class Slow(Process):
        def __init__(self, command: Sequence[str]) -> None:
            starting.set()
            assert go_on.wait(PATIENCE)
            super().__init__(command)

    monkeypatch.setattr(engine_jobs, "Process", Slow)
    jobs = bench.jobs()
    job = jobs.submit(spec("victim"))
    assert starting.wait(PATIENCE)
    assert jobs.cancel(job.key)
    go_on.set()
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"
    assert "victim" not in bench.log()


def test_a_slow_cancel_does_not_hit_the_next_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, go_on = threading.Event(), threading.Event()
    end = Process.end

    def slow(process: Process, *, patience: float = 0.0) -> None:
        if threading.current_thread() is canceller:
            ending.set()
            assert go_on.wait(PATIENCE)
        end(process, patience=patience)

    monkeypatch.setattr(Process, "end", slow)
    jobs = bench.jobs()
    job, after = jobs.submit(spec("wait", 1)), jobs.submit(spec("wait", 2))
    running(jobs, job)
    canceller = threading.Thread(target=jobs.cancel, args=(job.key,))
    canceller.start()
    assert ending.wait(PATIENCE)
    bench.open_gate()  # the worker gets to its end before the axe falls
    running(jobs, after)
    go_on.set()
    canceller.join()
    bench.open_gate()
    assert finished(jobs, after).state == "done"
    assert finished(jobs, job).state == "cancelled"


def test_a_worker_that_does_not_listen_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "GRACE", 0.05)
    jobs = bench.jobs()
    job = jobs.submit(spec("stubborn"))
    pid = running(jobs, job)
    jobs.cancel(job.key)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_worker_started_ends_with_it(bench: Bench) -> None:
    jobs = bench.jobs()
    job = jobs.submit(spec("child"))
    with (bench.folder / "gate").open() as gate:  # its grandchild holds the other end
        jobs.cancel(job.key)
        assert gate.read() == ""


def test_the_time_limit_ends_a_job(bench: Bench) -> None:
    jobs = bench.jobs(time_limit=0.3)
    job = finished(jobs, jobs.submit(spec("wait")))
    assert job.state == "failed" and isinstance(job.error, TimedOut)
    assert "0.3 s" in job.error.message and "QFUND_TIME_LIMIT" in job.error.remedy
    jobs._time_limit = PATIENCE
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"


def test_a_worker_killed_from_outside(bench: Bench) -> None:
    jobs = bench.jobs()
    job, after = jobs.submit(spec("wait")), jobs.submit(spec("after"))
    first = running(jobs, job)
    os.kill(first, signal.SIGKILL)
    until(lambda: running(jobs, job) != first)
    again = jobs.get(job.key)
    assert again is not None and again.attempts == 2 and again.again == "Started again: its worker was killed"
    os.kill(second := running(jobs, job), signal.SIGKILL)
    assert finished(jobs, after).state == "done"  # twice in the middle: those who wait come first
    until(lambda: running(jobs, job) not in (first, second))
    bench.open_gate()
    done = finished(jobs, job)
    assert done.state == "done" and done.attempts == 3


def test_a_job_whose_worker_is_killed_whenever_it_runs_is_given_up_and_no_other_waits_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_lane, "REST", 0.0)
    jobs = bench.jobs()
    job, after = jobs.submit(spec("die 9")), jobs.submit(spec("after"))
    failed = finished(jobs, job)
    assert failed.state == "failed" and isinstance(failed.error, WorkerDied) and "SIGKILL" in failed.error.message
    assert failed.attempts == engine_process.ATTEMPTS == 8 and "not for its memory" in failed.error.message
    assert finished(jobs, after).state == "done"
    assert [word for word in bench.log() if word != "start"] == ["die"] * 2 + ["after"] + ["die"] * 6


def test_a_job_that_took_all_memory_is_begun_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = iter(range(100))  # more than there were
    monkeypatch.setattr(engine_process, "_ended_by_the_system", lambda: next(killed))
    jobs = bench.jobs()
    failed = finished(jobs, jobs.submit(spec("die 9")))
    assert failed.attempts == 2 and isinstance(failed.error, WorkerDied)
    assert "SIGKILL" in failed.error.message and "memory ran out" in failed.error.message
    assert "smaller model" in failed.error.remedy


def test_a_worker_that_held_more_than_half_of_its_memory_ran_out_of_it() -> None:
    process = Process([sys.executable, "-c", "held = bytearray(b'1' * (1 << 26)); print(flush=True); input()"])
    assert process._popen.stdout is not None and process._popen.stdout.readline()
    assert process.memory() > 1 << 26
    os.kill(process.pid, signal.SIGKILL)
    process.end(patience=PATIENCE)
    little, much = process.death(1 << 40), process.death(1 << 26)
    process.close()
    assert isinstance(little, engine_process.Killed) and isinstance(much, engine_process.Starved)
    assert (little.tries, much.tries) == (8, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("die 11", "SIGSEGV"),
        ("die 6", "SIGABRT"),
        ("leave 3", "exit code 3"),
        ("leave 137", "SIGKILL"),
        ("leave 0", "0"),
    ],
)
def test_a_worker_that_dies_says_how(bench: Bench, text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_lane, "REST", 0.0)
    jobs = bench.jobs()
    job = finished(jobs, jobs.submit(spec(text)))
    assert isinstance(job.error, WorkerDied)
    assert words in job.error.message
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"


def test_a_worker_that_died_between_jobs_is_replaced(bench: Bench) -> None:
    jobs = bench.jobs()
    job = jobs.submit(spec("wait"))
    pid = running(jobs, job)
    bench.open_gate()
    finished(jobs, job)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"


@pytest.mark.parametrize("text", ["garbage", "malformed"])
def test_a_worker_that_talks_nonsense_is_replaced(bench: Bench, text: str) -> None:
    jobs = bench.jobs()
    job = finished(jobs, jobs.submit(spec(text)))
    assert isinstance(job.error, WorkerDied) and "cannot be read" in job.error.message
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"
    assert bench.log().count("start") == 2


def test_a_worker_that_cannot_be_started(bench: Bench) -> None:
    jobs = bench.jobs(command=["/no/such/program"])
    job = finished(jobs, jobs.submit(spec()))
    assert isinstance(job.error, WorkerDied) and "cannot be started" in job.error.message


def test_a_failure_is_remembered_until_the_job_is_submitted_again(bench: Bench, store: MemoryStore) -> None:
    jobs = bench.jobs()
    job = finished(jobs, jobs.submit(spec("fail")))
    assert job.state == "failed" and isinstance(job.error, CorruptCheckpoint)
    assert (job.error.message, job.error.remedy) == ("The file is cut off.", "Get it again.")
    assert jobs.find(spec("fail")) == job
    again = jobs.submit(spec("fail"))
    assert again.active and again.error is None
    finished(jobs, again)
    assert bench.log() == ["start", "fail", "fail"]
    assert store.kept == {}


def test_a_worker_that_is_spent_is_replaced(bench: Bench) -> None:
    jobs = bench.jobs()
    job = finished(jobs, jobs.submit(spec("spent")))
    assert isinstance(job.error, OutOfBudget)
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"
    assert bench.log() == ["start", "spent", "start", "after"]


def test_a_store_that_refuses_does_not_lose_the_report(bench: Bench, store: MemoryStore) -> None:
    store.refuses = {"put"}
    jobs = bench.jobs()
    job = finished(jobs, jobs.submit(spec()))
    assert job.state == "done" and job.result is not None
    assert job.warning is not None and "The disk is full. Free some space." in job.warning


def test_a_model_that_changes_while_it_is_measured_is_not_stored(bench: Bench, store: MemoryStore) -> None:
    weights = "before"
    jobs = bench.jobs(identify=lambda spec: weights)
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    weights = "after"
    bench.open_gate()
    job = finished(jobs, job)
    assert job.result is not None and job.warning is not None and "changed" in job.warning
    assert store.kept == {}


def test_what_is_wrong_with_a_spec_is_said_at_once(bench: Bench) -> None:
    def missing(spec: Spec) -> str:
        raise ModelNotFound("There is no such folder.")

    jobs = bench.jobs()
    with pytest.raises(UnknownName):
        jobs.submit(replace(spec(), precisions=("int7",)))
    with pytest.raises(InvalidSpec):
        jobs.submit(replace(spec(), max_tokens=0))
    with pytest.raises(InvalidInput, match="Unicode"):
        jobs.submit(spec("a lone surrogate: \udc80"))
    with pytest.raises(ModelNotFound):
        bench.jobs(identify=missing).submit(spec())
    assert bench.log() == []


def test_finished_jobs_are_forgotten_oldest_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_jobs, "KEEP_FINISHED", 5)
    monkeypatch.setattr(engine_jobs, "KEEP_RESULTS", 2)
    jobs = bench.jobs(capacity=20)
    done = [finished(jobs, jobs.submit(spec("do", 10 + i))) for i in range(3)]
    assert [jobs.get(job.key) is not None for job in done] == [False, True, True]
    failed = [finished(jobs, jobs.submit(spec("fail", 10 + i))) for i in range(5)]
    assert [jobs.get(job.key) is not None for job in done] == [False, False, False]
    assert all(jobs.get(job.key) is not None for job in failed)


def test_warming_imports_ahead_and_again_after_a_worker_was_ended(bench: Bench) -> None:
    jobs = bench.jobs()
    jobs.warm()
    until(lambda: bench.log() == ["start", "warm"])
    job = jobs.submit(spec("wait"))
    running(jobs, job)
    jobs.cancel(job.key)
    until(lambda: bench.log() == ["start", "warm", "wait", "start", "warm"])
    assert finished(jobs, jobs.submit(spec("after"))).state == "done"
    assert bench.log()[5:] == ["after"]


def test_closing_cancels_everything_and_ends_the_worker(bench: Bench) -> None:
    jobs = bench.jobs()
    first, second = jobs.submit(spec("wait")), jobs.submit(spec("second"))
    pid = running(jobs, first)
    jobs.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [finished(jobs, job).state for job in (first, second)] == ["cancelled", "cancelled"]
    with pytest.raises(EngineError, match="shutting down"):
        jobs.submit(spec())
    jobs.close()


def test_nothing_is_started_before_it_is_needed(bench: Bench) -> None:
    threads = set(threading.enumerate())
    jobs = bench.jobs()
    assert set(threading.enumerate()) <= threads
    jobs.close()
    assert bench.log() == []


def test_waiting_returns_the_present_moment_after_the_timeout(bench: Bench) -> None:
    jobs = bench.jobs()
    job = jobs.submit(spec("wait"))
    present = jobs.wait(job.key, 0.01)
    assert present is not None and present.active
    assert jobs.wait("no such job") is None


def test_settings_are_read_from_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_QUEUE", "1")
    jobs = bench.jobs()
    jobs.submit(spec("wait"))
    jobs.submit(spec("second"))
    with pytest.raises(QueueFull):
        jobs.submit(spec("third"))
    jobs.close()
    monkeypatch.setenv("QFUND_TIME_LIMIT", "0.5")
    jobs = bench.jobs()
    assert isinstance(finished(jobs, jobs.submit(spec("wait"))).error, TimedOut)


@pytest.mark.parametrize("name", ["QFUND_QUEUE", "QFUND_TIME_LIMIT"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "nan", "inf"])
def test_a_malformed_setting_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        Jobs(store)


# The real worker, with a measure that is chosen by the first word of the input text.


class Unheard(ModelError):
    """An error that the web server has no name for."""


def fake_measure(spec: Spec, progress: Callable[[str, float], None]) -> Report:
    what = (spec.text or "").split(" ")[0]
    if what == "chatty":
        print("Loading weights: 100%")
        sys.stdout.flush()
        os.write(1, b'{"type": "done"}\nno JSON\n')
        subprocess.run([sys.executable, "-c", "print('a child speaks')"], check=True)
        assert sys.stdin.read() == ""
    elif what == "busy":
        for i in range(20_000):
            progress("Running" if i < 10_000 else "Comparing", i / 20_000)
        progress("Strange", float("nan"))
        progress("Beyond", 7.5)
    elif what == "wait":
        progress(f"pid {os.getpid()}", 0.5)
        threading.Event().wait()
    elif what == "typed":
        raise CorruptCheckpoint("Datei 'größe\udc80' ist kaputt.", "Hol sie neu.")
    elif what == "subclass":
        raise Unheard("Never heard of.", "Nothing.")
    elif what == "unexpected":
        raise ZeroDivisionError("division\nby zero " + "x" * 1000)
    elif what == "exit":
        sys.exit("a library leaves")
    elif what == "memory":
        raise MemoryError
    elif what == "torch":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
    elif what == "nothing":
        return None  # type: ignore[return-value]
    found = make_report(spec)
    if what == "large":
        row = replace(found.reference.tensors[0], name="层.βάρος 🦙\u2028" * 3, bytes=0)
        many = (*found.reference.tensors, *(row,) * 60_000)
        found = replace(found, reference=replace(found.reference, tensors=many))
    return found


COMMAND = [sys.executable, "-m", "qfund.engine.worker", "--measure", "tests.engine.test_engine:fake_measure"]


@pytest.fixture(scope="module")
def real() -> Iterator[Jobs]:
    jobs = Jobs(MemoryStore(), command=COMMAND, identify=lambda spec: "weights")
    yield jobs
    jobs.close()


@pytest.mark.parametrize("text", [None, "chatty", "busy", "naïve 🦙 \u2028\0\n text", "large", "x" * 3_000_000])
def test_the_real_worker_measures(real: Jobs, text: str | None) -> None:
    job = finished(real, real.submit(spec(text)))
    assert job.result is not None, job.error
    assert job.result.spec == spec(text)
    if text == "large":
        assert job.result == fake_measure(spec("large"), lambda *_: None)
        assert len(report_request.to_json(job.result)) > 5_000_000


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("typed", CorruptCheckpoint, "Datei 'größe?' ist kaputt. Hol sie neu."),
        ("subclass", ModelError, "Never heard of. Nothing."),
        ("unexpected", EngineError, "ZeroDivisionError: division by zero xxx"),
        ("exit", EngineError, "SystemExit: a library leaves"),
        ("nothing", EngineError, "returned NoneType, not a Report"),
        ("memory", OutOfBudget, "more memory than there is"),
        ("torch", OutOfBudget, "more memory than there is"),
    ],
)
def test_errors_cross_from_the_real_worker(real: Jobs, text: str, kind: type[QfundError], words: str) -> None:
    job = finished(real, real.submit(spec(text)))
    assert type(job.error) is kind
    assert words in str(job.error)
    assert "Traceback" not in str(job.error) and len(str(job.error)) < 800


def test_the_real_worker_is_cancelled_and_replaced(real: Jobs) -> None:
    job = real.submit(spec("wait"))
    running(real, job)
    assert real.cancel(job.key)
    assert finished(real, real.submit(spec())).state == "done"


def measure(request: Request, kind: str = "compare") -> messages.Measure:
    return messages.Measure(kind, messages.document(request))


def converse(*requests: messages.Request | bytes, command: list[str] = COMMAND) -> list[messages.Event]:
    """Everything that a worker says until it has answered each measurement."""
    process = Process(command)
    said: list[messages.Event] = []
    try:
        events = process.events()
        for request in requests:
            if isinstance(request, bytes):
                assert process._popen.stdin is not None
                process._popen.stdin.write(request + b"\n")
                process._popen.stdin.flush()
            else:
                process.send(request)
            if not isinstance(request, messages.Warm):
                for event in events:
                    said.append(event)
                    if isinstance(event, messages.Done | messages.Failed):
                        break
    finally:
        process.end()
        process.close()
    return said


def test_progress_is_throttled_but_names_every_phase_and_stays_within_bounds() -> None:
    said = converse(measure(spec("busy")))
    assert isinstance(said[0], messages.Ready)
    steps = [event for event in said if isinstance(event, messages.Progress)]
    assert list(dict.fromkeys(step.phase for step in steps)) == [
        "Starting",
        "Running",
        "Comparing",
        "Strange",
        "Beyond",
    ]
    assert len(steps) < 200
    assert steps[-2].share == 0.0 and steps[-1].share == 1.0
    assert isinstance(said[-1], messages.Done)


def test_a_request_that_cannot_be_read_gets_an_answer_and_does_no_harm() -> None:
    said = converse(b"no JSON", b'{"type": "fly"}', messages.Warm(), measure(spec()))
    failed = [event.error for event in said if isinstance(event, messages.Failed)]
    assert failed == ["InvalidSpec", "InvalidSpec"]
    assert isinstance(said[-1], messages.Done)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ({"kind": "compere", "request": {"model": "m"}}, UnknownName, "Did you mean: compare?"),
        ({"kind": "compare", "request": {"precisions": []}}, InvalidSpec, "missing required field `model`"),
        ({"kind": "compare", "request": {"model": 5}}, InvalidSpec, "$.model"),
        ({"kind": "compare"}, InvalidSpec, "`request`"),
    ],
)
def test_an_unknown_kind_or_a_malformed_request_is_named(
    message: dict[str, object], kind: type[QfundError], words: str
) -> None:
    _, failed, *_, done = converse(json.dumps({"type": "measure"} | message).encode(), measure(spec()))
    assert isinstance(failed, messages.Failed) and isinstance(done, messages.Done)
    assert type(failed.exception()) is kind
    assert words in str(failed.exception())


def test_a_measure_that_cannot_be_imported_fails_when_it_is_needed() -> None:
    command = [*COMMAND[:-1], "no_such_module:compare"]
    said = converse(messages.Warm(), measure(spec()), command=command)
    assert isinstance(said[-1], messages.Failed) and "no_such_module" in said[-1].message


def test_the_worker_ends_with_its_parent_in_the_middle_of_a_job() -> None:
    parent = """
import sys
from qfund.engine import messages
from qfund.engine.process import Process
from qfund.engine.worker import Channel, Reporter
from qfund.features.compare.request.spec import Spec
worker = Process(sys.argv[1:])
worker.send(messages.Measure("compare", messages.document(Spec("a-model", text="wait"))))
for event in worker.events():
    if isinstance(event, messages.Progress) and event.phase.startswith("pid"):
        print("waits", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent, *COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"waits\n"
    process.kill()
    # The worker has inherited the parent's standard error: its end is read when both are gone.
    process.stderr.read()
    process.wait()


def test_the_worker_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert isinstance(converse(measure(spec()))[-1], messages.Done)


# Other kinds of jobs.


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in TOYS.items():
        monkeypatch.setitem(KINDS, name, kind)


@pytest.fixture
def toy_jobs(toys: None) -> Iterator[Jobs]:
    jobs = Jobs(Store("sqlite://"), command=[sys.executable, "-m", "tests.engine.toys"], identify=weights)
    yield jobs
    jobs.close()


def test_one_worker_does_jobs_of_several_kinds_and_equal_ones_once(toy_jobs: Jobs) -> None:
    shouts = [toy_jobs.submit(Shout("a-model", "naïve 🦙")) for _ in range(5)]
    sums = [toy_jobs.submit(Sum("a-model", numbers)) for numbers in ((1, 2, 3), (3, 2, 1), (4,), (2, 1, 3))]
    assert len({job.key for job in shouts}) == 1
    assert len({job.key for job in sums}) == 2
    shouted, six, four = (finished(toy_jobs, job) for job in (shouts[0], sums[0], sums[2]))
    assert (shouted.result, shouted.visitors) == (Shouted("NAÏVE 🦙"), 5)
    assert (six.result, six.visitors, six.request) == (Total(6, nth=1), 3, Sum("a-model", (1, 2, 3)))
    assert four.result == Total(4, nth=2)
    assert toy_jobs.find(Sum("a-model", (2, 3, 1))) == six
    for job in (shouted, six, four):
        assert job.warning is None
        assert toy_jobs._store.get(kind_of(job.request), job.key) == job.result


def test_a_job_of_another_kind_is_cancelled_and_the_next_gets_another_worker(toy_jobs: Jobs) -> None:
    job, after = toy_jobs.submit(Sum("a-model", (-1,))), toy_jobs.submit(Shout("a-model", "after"))
    pid = running(toy_jobs, job)
    assert toy_jobs.cancel(job.key)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert isinstance(finished(toy_jobs, job).error, Cancelled)
    assert finished(toy_jobs, after).result == Shouted("AFTER")


def test_a_measure_that_gives_a_result_of_another_kind_has_failed(toy_jobs: Jobs) -> None:
    job = finished(toy_jobs, toy_jobs.submit(Shout("a-model", "wrong")))
    assert isinstance(job.error, EngineError) and "returned Total, not a Shouted" in job.error.message
    assert toy_jobs._store.get(kind_of(job.request), job.key) is None


def test_a_kind_that_only_the_server_knows_is_an_error(toys: None, bench: Bench) -> None:
    jobs = bench.jobs(command=COMMAND)
    job = finished(jobs, jobs.submit(Shout("a-model", "words")))
    assert isinstance(job.error, UnknownName) and "Unknown kind of job 'shout'" in job.error.message


def test_compute_finds_stored_results_of_any_kind(toys: None) -> None:
    store = Store("sqlite://")
    first: Total = compute(Sum("a-model", (5, 7)), store=store, identify=weights)
    again: Total = compute(Sum("a-model", (7, 5)), store=store, identify=weights)
    assert first.total == 12 and again == first
    fresh: Total = compute(Sum("a-model", (5, 7)), store=store, fresh=True, identify=weights)
    assert fresh.nth > first.nth
    assert compute(Sum("a-model", (7, 5)), store=store, identify=weights) == fresh
    assert compute(Sum("a-model", (7, 5)), store=store, identify=lambda request: "other").nth > fresh.nth
    assert store.listed(COMPARE) == []
    with pytest.raises(InvalidSpec, match="nothing to add"):
        compute(Sum("a-model", ()), identify=weights)


@pytest.mark.parametrize("document", [b"", b"no JSON", b"{}", b'{"words": 5}'])
def test_a_stored_result_that_cannot_be_read_is_absent(
    toys: None, document: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked, kind = Store("sqlite://"), Shout("a-model", "words"), TOYS["shout"]
    key = key_of(asked, weights)
    assert keep(store, key, asked, Shouted("WORDS"), weights) is None
    assert store.get(kind, key) == Shouted("WORDS")
    assert store.get(replace(kind, schema=4), key) is None
    with monkeypatch.context() as patched:
        patched.setattr(msgspec.json, "encode", lambda result: document)
        store.put(kind, key, None)
    assert store.get(kind, key) is None
    assert compute(asked, store=store, identify=weights) == store.get(kind, key) == Shouted("WORDS")


def test_equal_values_of_two_kinds_have_two_keys(toys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(Shout("a-model", "words"), weights)
    monkeypatch.setitem(KINDS, "shout", replace(TOYS["shout"], name="whisper"))
    assert key_of(Shout("a-model", "words"), weights) != key


def test_a_request_of_no_kind_is_a_mistake_of_the_caller(bench: Bench) -> None:
    asked = Shout("a-model", "words")
    jobs = bench.jobs()
    for call in (kind_of, key_of, compute, jobs.submit, jobs.find):
        with pytest.raises(TypeError, match=r"tests\.engine\.toys:Shout"):
            call(asked)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_row_names_what_is_there(kind: Kind) -> None:
    request, result = lazily(kind.request), lazily(kind.result)
    for type_ in (request, result):
        assert type_.__dataclass_params__.frozen
    assert {"model", "revision"} <= {field.name for field in fields(request)}
    assert callable(lazily(kind.identify)) and (kind.check is None or callable(lazily(kind.check)))
    module, _, function = kind.measure.partition(":")
    found = find_spec(module)  # which imports no torch
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_text("utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert KINDS[kind.name] is kind


# Messages.


@given(st.text(), st.text(), st.sampled_from(sorted(ERRORS)))
def test_any_error_crosses(message: str, remedy: str, name: str) -> None:
    line = messages.line(messages.failure(ERRORS[name](message, remedy)))
    assert line.count(b"\n") == 1
    event = messages.event(line)
    assert isinstance(event, messages.Failed)
    found = event.exception()
    assert (type(found).__name__, found.message, found.remedy) == (name, message, remedy)


@given(st.text())
def test_any_text_crosses(text: str) -> None:
    line = messages.line(measure(spec(text)))
    assert line.count(b"\n") == 1
    request = messages.request(line)
    assert isinstance(request, messages.Measure)
    assert KINDS[request.kind].read_request(request.request) == spec(text)
    assert json.loads(line)["type"] == "measure"


@given(st.binary() | st.text().map(str.encode) | st.just(b'{"type":"done","report":{}}'))
def test_anything_else_is_a_decode_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.event(line)


def test_an_error_of_an_unknown_name_is_an_engine_error() -> None:
    assert type(messages.Failed("Unheard", "What?").exception()) is EngineError


# In this process.


class Counting:
    def __init__(self) -> None:
        self.calls: list[Spec] = []

    def __call__(self, spec: Spec, progress: Callable[[str, float], None]) -> Report:
        self.calls.append(spec)
        progress("Measuring", 0.5)
        return make_report(spec)


def weights(spec: Spec) -> str:
    return "weights"


def test_compute_measures_once_and_then_finds_it(store: MemoryStore) -> None:
    measure = Counting()
    seen: list[tuple[str, float]] = []

    def progress(phase: str, share: float) -> None:
        seen.append((phase, share))

    first = compute(spec(), store=store, progress=progress, measure=measure, identify=weights)
    second = compute(spec(), store=store, measure=measure, identify=weights)
    assert first == second == store.kept[key_of(spec(), weights)]
    assert len(measure.calls) == 1
    assert seen == [("Measuring", 0.5)]
    compute(spec(), store=store, fresh=True, measure=measure, identify=weights)
    compute(spec(), store=None, measure=measure, identify=weights)
    assert len(measure.calls) == 3


def test_compute_measures_the_canonical_spec() -> None:
    measure = Counting()
    compute(Spec(" a-model ", precisions=("int8", "bf16", "int8")), measure=measure, identify=weights)
    assert measure.calls == [Spec("a-model", precisions=("bf16", "int8"))]
    with pytest.raises(UnknownName):
        compute(Spec("a-model", precisions=("int7",)), measure=measure, identify=weights)
    assert len(measure.calls) == 1


@pytest.mark.parametrize("refuses", [{"get"}, {"put"}, {"get", "put"}])
def test_compute_returns_the_report_that_the_store_refuses(store: MemoryStore, refuses: set[str]) -> None:
    store.refuses = refuses
    told: list[str] = []
    found = compute(spec(), store=store, warn=told.append, measure=Counting(), identify=weights)
    assert found == make_report(spec())
    assert len(told) == 1 and "The disk" in told[0]
    with pytest.warns(UserWarning, match="The disk"):
        compute(spec(), store=store, measure=Counting(), identify=weights)


def test_compute_without_a_store_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute(spec(), measure=Counting(), identify=weights)


def test_compute_finds_its_measure_and_identity_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    named = replace(KINDS["compare"], measure=f"{__name__}:fake_measure", identify=f"{__name__}:weights")
    monkeypatch.setitem(KINDS, "compare", named)
    assert compute(spec()) == make_report(spec())


def test_importing_the_engine_imports_no_torch_and_no_database() -> None:
    script = """
import sys, qfund.engine.jobs, qfund.engine.worker
from qfund.engine.kinds import KINDS, lazily
for kind in KINDS.values():
    for name in filter(None, (kind.request, kind.result, kind.check, kind.identify)):
        lazily(name)
print(sorted({0} & set(sys.modules)))
"""
    names = "{'torch', 'transformers', 'pandas', 'streamlit', 'sqlalchemy', 'multiprocessing'}"
    out = subprocess.run(
        [sys.executable, "-c", script.replace("{0}", names)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert out.stdout == "[]\n"


def test_texts_are_seen_while_they_are_made(tmp_path: Path) -> None:
    """A worker that writes for ever; the job holds what it has written last until somebody ends it."""
    script = (
        "import json, sys\n"
        "say = lambda **message: print(json.dumps(message), flush=True)\n"
        "say(type='ready')\n"
        "sys.stdin.readline()\n"
        "say(type='partial', texts={'fp32': 'one'})\n"
        "say(type='partial', texts={'fp32': 'one two', 'bf16': ''})\n"
        "sys.stdin.readline()\n"
    )
    jobs = Jobs(MemoryStore(), command=(sys.executable, "-c", script), identify=lambda request: "x")
    try:
        key = jobs.submit(Spec("dummy")).key
        until(lambda: (job := jobs.get(key)) is not None and len(job.texts) == 2)
        found = jobs.get(key)
        assert found is not None and found.texts == {"fp32": "one two", "bf16": ""}
    finally:
        jobs.close()


def test_a_reporter_shows_texts_at_most_ten_times_a_second() -> None:
    sent: list[messages.Event] = []

    class Line(Channel):
        def __init__(self) -> None: ...

        def send(self, event: messages.Event) -> None:
            sent.append(event)

    reporter = Reporter(Line())
    assert isinstance(reporter, Streaming)
    for count in range(100):
        reporter.show({"fp32": "word " * count})
    assert sent[0] == messages.Partial({"fp32": ""}) and len(sent) < 50
    assert messages.event(messages.line(sent[0])) == sent[0]
