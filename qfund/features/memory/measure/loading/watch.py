"""One load in a process of its own, watched by another one; both are gone when it is over, however it ends."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from qfund.core.errors import EngineError, QfundError, TimedOut, WorkerDied
from qfund.engine import child
from qfund.engine.messages import Failed
from qfund.features.memory.measure.loading import messages, sampler
from qfund.features.memory.measure.loading.messages import Entered, Event, Imported, Job, Loaded, Ran

#: Seconds between two samples.
INTERVAL = 0.005
#: Seconds that one load may take, and the forward after it.
LIMIT = 3600.0
FORWARD_LIMIT = 600.0
_LOADER = (sys.executable, "-m", "qfund.features.memory.measure.loading.process")

#: Clock in seconds, resident and shared bytes.
Sample = tuple[float, int, int]
Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True, slots=True)
class Run:
    """One load, and the forward after it where the job asks for one: what the process said of itself, and what was seen
    from outside."""

    loaded: Loaded
    samples: tuple[Sample, ...]
    ran: Ran | None = None


def run(
    job: Job,
    entered: Callable[[str], None] = lambda phase: None,
    *,
    interval: float | None = INTERVAL,
    loader: Sequence[str] = _LOADER,
) -> Run:
    """Load once, in a fresh process. A forward that fails is told in the result.

    Args:
        entered: called with the name of each phase.
        interval: None takes no samples but those at the borders.
        loader: the command that loads.

    Raises:
        QfundError: what the process says went wrong.
        WorkerDied: it was killed, or ended without a word.
        TimedOut: it took longer than ``LIMIT``.
    """
    entered("importing")
    with _child(loader) as process, _limit(process, LIMIT, "Loading", "Name fewer ways."):
        _tell(process, messages.line(job))
        _expect(process, Imported, entered)
        if interval is None or not sampler.available():
            _tell(process, b"\n")
            return Run(_expect(process, Loaded, entered), (), _ran(process, job, entered))
        with watcher(process.pid, interval) as seen:
            _tell(process, b"\n")
            loaded = _expect(process, Loaded, entered)
            ran = _ran(process, job, entered)
            return Run(loaded, seen(), ran)


def _ran(process: "subprocess.Popen[bytes]", job: Job, entered: Callable[[str], None]) -> Ran | None:
    """What became of the forward, which may take its process with it."""
    if not job.tokens:
        return None
    try:
        with _limit(process, FORWARD_LIMIT, "A forward", "Choose a smaller model."):
            return _expect(process, Ran, entered)
    except QfundError as error:
        return Ran(problem=error.message)


@contextmanager
def watcher(pid: int, interval: float = INTERVAL) -> Iterator[Callable[[], tuple[Sample, ...]]]:
    """Sample a process from now on; the function that is given stops that and gives what was seen.

    Raises:
        WorkerDied: the sampler did not do its work.
    """
    with _child((sys.executable, "-I", "-S", str(sampler.__file__), str(pid), str(interval))) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()  # it has begun, or has ended: then there will be nothing to read

        def stop() -> tuple[Sample, ...]:
            assert process.stdin and process.stdout
            process.stdin.close()
            seen = process.stdout.read()
            if process.wait() or not seen:
                raise _death(process, "The sampler of memory")
            return tuple(sampler.RECORD.iter_unpack(seen))

        yield stop


@contextmanager
def _child(command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is gone when the block is left.

    It stays in this process's group, which is killed as a whole when a job is cancelled, and it ends by itself when its
    standard input does.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child.environment())
    except OSError as error:
        raise WorkerDied(
            f"A process to measure in cannot be started: {error}.", "See that memory and processes are left."
        ) from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


@contextmanager
def _limit(process: "subprocess.Popen[bytes]", seconds: float, what: str, remedy: str) -> Iterator[None]:
    """Kill the process when it has taken too long."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except WorkerDied as died:
        if late.is_set():
            raise TimedOut(f"{what} took longer than {seconds:.0f} s and was stopped.", remedy) from died
        raise
    finally:
        timer.cancel()


def _tell(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it has ended; so does its output, and that says why
        process.stdin.write(line)
        process.stdin.flush()


def _expect(process: "subprocess.Popen[bytes]", kind: type[Kind], entered: Callable[[str], None]) -> Kind:
    """The next event of that kind."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = messages.event(line)
        except msgspec.DecodeError as error:
            raise EngineError(f"The loading process says what cannot be read: {error}.") from error
        if isinstance(event, Failed):
            raise event.exception()
        if isinstance(event, kind):
            return event
        if isinstance(event, Entered) and event.phase != "end":
            entered(event.phase)
    raise _death(process, "The loading process")


def _death(process: "subprocess.Popen[bytes]", who: str) -> WorkerDied:
    """Why a process ended, in words."""
    code = process.wait()
    if code >= 0:
        return WorkerDied(f"{who} ended before it was done (exit code {code}).", "See standard error; measure again.")
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return WorkerDied(
            f"{who} was killed (SIGKILL), most likely because the memory ran out.",
            "Choose a smaller model or fewer ways, or use a machine with more memory.",
        )
    return WorkerDied(f"{who} died in the middle ({name}).", "Measure again.")
