"""The processor of this machine."""

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
#: What Linux calls instructions that multiply numbers of a dtype, on x86 and ARM.
_MULTIPLIES = {"bfloat16": {"avx512_bf16", "amx_bf16", "bf16"}, "float16": {"avx512_fp16", "amx_fp16", "asimdhp"}}


def cpu_name() -> str:
    """What it calls itself, and how many cores there are."""
    name = _told("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


@cache
def multiplies_in(dtype: str) -> bool:
    """Whether it has instructions of its own for products in this dtype (torch's name); True where nobody can tell."""
    told = _told("flags", "Features")
    return told is None or dtype not in _MULTIPLIES or bool(_MULTIPLIES[dtype].intersection(told.split()))


def delay(schedstat: Path) -> float:
    """Seconds that a thread was ready to run and had no core, as Linux counts them in this file; 0 where it does not,
    or the thread has ended."""
    with suppress(OSError, ValueError, IndexError):
        return int(schedstat.read_text().split()[1]) / 1e9
    return 0.0


def _told(*names: str) -> str | None:
    """What Linux says of the first core under one of these names."""
    if _INFO.is_file():
        for line in _INFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    return None
