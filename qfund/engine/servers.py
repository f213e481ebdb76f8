"""Which server does a job, and whether that one is still there."""

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


def alive(name: str, beat: float) -> bool:
    """Whether the server of that name is there. ``beat``: when it gave its last sign, in seconds since the epoch."""
    host, pid, started, _ = name.split(" ") if name.count(" ") == 3 else ("", "", "", "")
    if host != _host() or not pid.isdigit():
        return time.time() - beat < LEASE
    if int(pid) == os.getpid() and started == _started(os.getpid()):
        return name in _living
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and so there
        pass
    return _started(int(pid)) == started


def _host() -> str:
    return socket.gethostname().replace(" ", "-")


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did: a later one of the same number is another one."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "-"
