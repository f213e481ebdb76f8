"""What this machine, or this container, has, and who shares it."""

import contextlib
import ctypes
import os
import re
import shutil
import sys
from pathlib import Path

#: Bytes of a disk that caches leave free, for what cannot be left out.
RESERVE = 256 * 1024**2


def public() -> bool:
    """Whether strangers share this server (``QFUND_PUBLIC=1``): nothing can be deleted, own texts are not listed, and
    no message tells of the machine."""
    return os.environ.get("QFUND_PUBLIC", "") not in ("", "0")


def memory_limit() -> int:
    """Bytes that all processes here may take together."""
    known = hasattr(os, "sysconf")
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else sys.maxsize]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(path).read_text().strip() if Path(path).is_file() else "max"
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def free_bytes(folder: Path) -> int:
    """Bytes that are free where ``folder`` lies or will lie. Raises ``OSError``."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


#: Bytes that were freed from which on it is worth a look at all heaps.
_LITTLE = 8 << 20


def give_back(freed: int = _LITTLE) -> None:
    """Let the system have what this process has freed, so many bytes: glibc keeps what is smaller than its threshold,
    scattered over its heaps, half a gigabyte after a few large parts of a model. It takes milliseconds."""
    if freed < _LITTLE:
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back_from(piece: int = 16 << 20) -> None:
    """Let glibc give back by itself what is freed: a piece of so many bytes or more, and so many at its heap's end. Its
    own thresholds rise with the first large tensors, and then it keeps what they free; there is no asking for them.
    Lower ones would map and zero each temporary of a few megabytes anew, which doubles the time of a comparison."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(option, piece)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def leave_files() -> None:
    """Let pages of files go that are mapped here and are as they are in their files, on Linux: of torch's libraries,
    starting touches most and running a third. What is needed again comes from the system's cache, as it came before."""
    with contextlib.suppress(AttributeError, OSError, TypeError, ValueError):
        for start, end in _CLEAN.findall(Path("/proc/self/smaps").read_text(errors="replace")):
            first, last = int(start, 16), int(end, 16)
            leave(first, last - first)


def leave(address: int, count: int) -> None:
    """Let the pages go in which these bytes of a mapped file lie, which nobody has written to, on Linux: what is needed
    again comes from the system's cache or from the file."""
    if sys.platform == "linux":
        first = address - address % os.sysconf("SC_PAGE_SIZE")
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(address + count - first), _DONTNEED)


#: Of a mapping that nobody writes to and that holds no page of its own: where it begins and ends.
_CLEAN = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-.p \S+ \S+ \S+ +/.*\n(?:\w+: .*\n)*?Anonymous: +0 kB$", re.MULTILINE)
_DONTNEED = 4  # Linux, mman.h
