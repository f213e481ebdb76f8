"""One worker process as its parent sees it."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from qfund.core.errors import WorkerDied
from qfund.core.machine import memory_limit
from qfund.engine import child, messages

#: How often a job is begun before it is given up, where nothing tells that it is to blame for what ended it.
ATTEMPTS = 8
#: Seconds that a worker has to end by itself before it is killed.
GRACE = 2.0

_REMEDY = "Start it again: a fresh worker takes over."


class Killed(WorkerDied):
    """By somebody else, so that the job may do as it is. ``tries``: how often one is begun whose workers end so."""

    tries = ATTEMPTS


class Starved(Killed):
    """Most likely by the system, since memory ran out: it may be the job that took it, or there may be more soon."""

    tries = 2


class Process:
    """A started worker.

    It leads a process group, so that whatever it starts ends with it and Ctrl-C in the server's terminal does not reach
    it. It ends when this process does, because its standard input ends then.

    Args:
        settings: environment variables besides this process's own.
        folder: that it is started in; None for this process's own.

    Raises:
        WorkerDied: if it cannot be started.
    """

    def __init__(
        self, command: Sequence[str], settings: Mapping[str, str] | None = None, folder: str | None = None
    ) -> None:
        self._most, self._ended_before = 0, _ended_by_the_system()
        try:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child.environment() | dict(settings or {}),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerDied(
                f"The worker cannot be started: {error}.", "See that memory and processes are left."
            ) from error

    @property
    def pid(self) -> int:
        return self._popen.pid

    def alive(self) -> bool:
        return self._popen.poll() is None

    def memory(self) -> int:
        """Bytes that the worker and what it started hold now, without the files that they have mapped; 0 where the
        system does not tell."""
        now = sum(_held(pid) for pid in _family(self._popen.pid))
        self._most = max(self._most, now)
        return now

    def send(self, request: messages.Request) -> None:
        """Raises ``OSError`` if the worker is gone."""
        assert self._popen.stdin is not None
        self._most, self._ended_before = 0, _ended_by_the_system()
        self._popen.stdin.write(messages.line(request))
        self._popen.stdin.flush()

    def events(self) -> Iterator[messages.Event]:
        """What the worker says, until its output ends. Raises ``msgspec.DecodeError`` if it talks nonsense."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            yield messages.event(line)

    def end(self, *, patience: float = 0.0) -> None:
        """Make sure that the process and what it started are gone: wait ``patience`` seconds, terminate, kill. May be
        called from several threads and more than once."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience)
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(GRACE)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._popen.wait()

    def close(self) -> None:
        """Free the pipes of an ended process; for the thread that reads and writes them."""
        for stream in (self._popen.stdin, self._popen.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def death(self, memory: int = 0) -> WorkerDied:
        """Why an ended process ended, in words. ``memory``: bytes that it might take, where that was limited."""
        code = self._popen.returncode
        number = -code if code < 0 else code - 128  # a shell in between reports 128 + signal
        try:
            name = signal.Signals(number).name
        except ValueError:
            return WorkerDied(f"The worker ended before it was done (exit code {code}).", f"See the log. {_REMEDY}")
        if name == "SIGKILL":
            if _ended_by_the_system() > self._ended_before or self._most > (memory or memory_limit()) / 2:
                return Starved(
                    "The worker was killed (SIGKILL), most likely because the memory ran out.",
                    "Choose a smaller model, a shorter context or fewer tokens, or a machine with more memory. "
                    + _REMEDY,
                )
            return Killed(
                "The worker was killed (SIGKILL) again and again, and not for its memory as far as the system tells.",
                f"See what ends processes on its machine. {_REMEDY}",
            )
        return WorkerDied(f"The worker died in the middle ({name}).", _REMEDY)

    def _signal(self, number: int) -> None:
        """To the whole group, where there are groups. One that has no member left takes no signal."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)
        elif self.alive():
            self._popen.terminate()


def _ended_by_the_system() -> int:
    """How many processes this machine's kernel has killed because memory ran out, in a container or altogether; 0 where
    it does not tell."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it, where the system tells."""
    yield pid
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child_pid in (thread / "children").read_text().split():
                    yield from _family(int(child_pid))


def _held(pid: int) -> int:
    """Bytes of memory that no file could give back."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
