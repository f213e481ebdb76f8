"""What this machine, or this container, has."""

import os
from pathlib import Path


def memory_limit() -> int:
    """Bytes that all processes here may take together."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(path).read_text().strip() if Path(path).is_file() else "max"
        if text.isdigit():
            limits.append(int(text))
    return min(limits)
