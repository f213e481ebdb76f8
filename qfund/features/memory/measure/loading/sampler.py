"""Watch another process's memory: ``python -I -S sampler.py PID SECONDS``, with the standard library only.

It writes one line when it has begun, takes a sample every so many seconds until its standard input ends or the other
process does, and then writes all samples: ``RECORD`` of the monotonic clock (seconds), resident and shared bytes. A
process of its own, because a thread waits for the interpreter's lock while libraries load: 23 to 270 ms at a time.
"""

import array
import contextlib
import gc
import os
import select
import signal
import struct
import sys
import time

#: Seconds, resident bytes, shared bytes (pages of files and shared memory).
RECORD = struct.Struct("=dqq")
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def available() -> bool:
    """Whether this system says what a process takes."""
    return os.path.exists("/proc/self/statm")  # noqa: PTH110 - pathlib would triple the time that this process starts in


def statm(file: int) -> tuple[int, int]:
    """Resident and shared bytes, from an open ``/proc/<pid>/statm``: 2 to 8 µs, a tenth of what ``status`` takes."""
    _, resident, shared, _ = os.pread(file, 128, 0).split(maxsplit=3)
    return int(resident) * _PAGE, int(shared) * _PAGE


def main() -> None:
    pid, interval = int(sys.argv[1]), float(sys.argv[2])
    times, residents, shares = array.array("d"), array.array("q"), array.array("q")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends our standard input
    file = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.nice(-10)  # where it may, it comes first: on a busy machine its turn may be 200 ms away
    gc.disable()
    ended = select.poll()
    ended.register(0)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    due = time.monotonic()
    while True:
        try:
            resident, shared = statm(file)
        except (OSError, ValueError):
            break
        if not resident:  # it has ended, and its parent does not know yet
            break
        now = time.monotonic()
        times.append(now)
        residents.append(resident)
        shares.append(shared)
        due = max(due + interval, now)
        if ended.poll((due - now) * 1000):
            break
    rows = zip(times, residents, shares, strict=True)
    sys.stdout.buffer.write(b"".join(RECORD.pack(*row) for row in rows))


if __name__ == "__main__":
    main()
