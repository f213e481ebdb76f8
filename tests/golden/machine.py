"""The machine as far as it decides about a last digit."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path

from tests.golden.perform import ENVIRONMENT

_PACKAGES = ("torch", "transformers", "numpy", "pandas", "plotly", "streamlit", "torchao", "bitsandbytes")


def describe() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))]
    return {
        "cpu": " ".join(sorted(set(names[:2]))) or platform.processor(),
        "cores": str(os.cpu_count()),
        "threads": ENVIRONMENT["OMP_NUM_THREADS"],
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def same(recorded: Path) -> bool:
    known: dict[str, str] = json.loads(recorded.read_text("utf-8"))
    return known == describe()
