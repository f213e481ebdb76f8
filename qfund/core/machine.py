"""What this machine, or this container, has, and who shares it."""

import os
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
