"""The processor of this machine."""

import os
import platform
from functools import cache
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
#: What Linux calls instructions that multiply numbers of a dtype, on x86 and ARM.
_MULTIPLIES = {"bfloat16": {"avx512_bf16", "amx_bf16", "bf16"}, "float16": {"avx512_fp16", "amx_fp16", "asimdhp"}}


def cpu_name() -> str:
    """What it calls itself, and how many cores there are."""
    if _INFO.is_file():
        for line in _INFO.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@cache
def multiplies_in(dtype: str) -> bool:
    """Whether it has instructions of its own for products in this dtype (torch's name); True where nobody can tell."""
    if dtype not in _MULTIPLIES or not _INFO.is_file():
        return True
    for line in _INFO.read_text("utf-8", "replace").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return bool(_MULTIPLIES[dtype].intersection(flags.split()))
    return True
