"""What else a machine did while something was timed, as Linux counts it."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qfund.core.processor import delay

_TASKS, _CORES = Path("/proc/self/task"), Path("/proc/stat")


@dataclass(slots=True)
class Others:
    """Seconds over all blocks under ``with``: ``wanted`` that this process's threads ran or stood ready to, ``waited``
    that they stood ready without a core; ``there`` of all cores, ``stolen`` that whoever runs this virtual machine took
    of them. Nothing is counted where the system does not tell."""

    wanted: float = 0.0
    waited: float = 0.0
    there: float = 0.0
    stolen: float = 0.0
    _before: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def __enter__(self) -> "Others":
        self._before = _now()
        return self

    def __exit__(self, *_: object) -> None:
        ran, waited, there, stolen = (now - before for now, before in zip(_now(), self._before, strict=True))
        self.wanted += ran + max(0.0, waited)
        self.waited += max(0.0, waited)  # threads that have ended take theirs along
        self.there += there
        self.stolen += stolen

    @property
    def shares(self) -> tuple[float | None, float | None]:
        """``waited`` of what was wanted, and ``stolen`` of what was there; None where nothing counted them."""
        waited = self.waited / self.wanted if _TASKS.exists() and self.wanted > 0 else None
        return waited, self.stolen / self.there if _CORES.exists() and self.there > 0 else None


def _now() -> tuple[float, float, float, float]:
    waited, stolen, cores = sum(map(delay, _TASKS.glob("*/schedstat"))), 0.0, os.cpu_count() or 1
    with suppress(OSError, ValueError, IndexError), _CORES.open() as file:
        stolen = int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    return time.process_time(), waited, cores * time.perf_counter(), stolen
