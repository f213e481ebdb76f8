"""Which server does a job, and whether that one is still there."""

import functools
import os
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path

#: Seconds without a sign after which a server on another machine is taken to be gone.
LEASE = 60.0

_living: set[str] = set()


def begin() -> str:
    """A name for a server of this process: ``host pid start nonce``."""
    name = " ".join((_host(), str(os.getpid()), _started(os.getpid()), secrets.token_hex(4)))
    _living.add(name)
    return name


def end(name: str) -> None:
    """It takes no more jobs, and those that it has are anybody's."""
    _living.discard(name)


def alive(name: str, beat: float, now: float | None = None) -> bool:
    """Whether the server of that name is there.

    Args:
        beat: when it gave its last sign, in seconds since the epoch.
        now: by the same clock; this machine's where none is given.
    """
    host, pid, started, _ = name.split(" ") if name.count(" ") == 3 else ("", "", "", "")
    if host != _host() or not pid.isdigit():
        return (time.time() if now is None else now) - beat < LEASE
    if int(pid) == os.getpid() and started == _started(os.getpid()):
        return name in _living
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and so there
        pass
    return _started(int(pid)) == started


@functools.cache
def _host() -> str:
    """The machine as it was started, and in it what counts processes together: two containers, or two machines, may
    have the same name, and the same numbers mean other processes there."""
    parts = [socket.gethostname().replace(" ", "-")]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text()[:8])
    with suppress(OSError):
        parts.append("".join(filter(str.isdigit, str(Path("/proc/self/ns/pid").readlink()))))
    return "/".join(parts)


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did: a later one of the same number is another one."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "-"
