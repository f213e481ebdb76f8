"""Memory that a process gives back to the system."""

import ctypes
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from qfund.core.machine import give_back, leave_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system's own way, on Linux alone")
SIZE = 8 << 20


def test_pages_of_files_are_left_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "read").write_bytes(bytes(range(256)) * (SIZE // 256))
    with (tmp_path / "read").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as read:
        private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        content = private[:]
        assert _resident(private) == SIZE
        leave_files()
        assert _resident(private) == 0
        assert private[:] == content == read[:]


def test_what_was_written_stays(tmp_path: Path) -> None:
    """As relocated parts of a library are: mapped from a file, changed, and read-only since."""
    (tmp_path / "changed").write_bytes(bytes(SIZE))
    with (tmp_path / "changed").open("rb") as file:
        changed = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    changed[mmap.PAGESIZE] = 7
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(_address(changed)), ctypes.c_size_t(SIZE), mmap.PROT_READ) == 0
    leave_files()
    assert changed[mmap.PAGESIZE] == 7


def test_what_was_freed_goes_back() -> None:
    parts = [np.ones(32 << 10, np.uint8) for _ in range(1000)]  # smaller than what glibc maps by itself
    last = parts.pop()  # above all others, so that the end of the heap cannot fall
    give_back()
    before = _status("RssAnon")
    del parts
    give_back()
    assert _status("RssAnon") < before - (16 << 20)
    assert last.all()


def _address(mapped: mmap.mmap) -> int:
    return int(np.frombuffer(mapped, np.uint8).ctypes.data)


def _resident(mapped: mmap.mmap) -> int:
    """Bytes of it that count for this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    start = f"{_address(mapped):x}-"
    next(line for line in lines if line.startswith(start))
    return 1024 * int(next(line for line in lines if line.startswith("Rss:")).split()[1])


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name + ":")))
