"""A Ray cluster of three machines on this one, and jobs that say where they ran. ``python -m tests.engine.clustered``
is the worker that knows them, and with ``driver`` what hands them over."""

import atexit
import functools
import os
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qfund.core.feature import Kind
from qfund.engine.cluster import Cluster, driver
from qfund.engine.kinds import KINDS
from qfund.engine.worker import main

GIB = 1024**3
#: Name → what a machine has. The first one is the head, which the web servers are on.
MACHINES = {"head": (1, GIB), "small": (4, 3 * GIB), "large": (4, 6 * GIB)}
_HERE = "tests.engine.clustered"
HANDS_OVER = Cluster((sys.executable, "-m", _HERE, "driver"), 4)


@dataclass(frozen=True, slots=True)
class Stay:
    """``gate``: of a file; while it is there, the job goes on."""

    model: str
    gib: float = 0.25
    gate: str = ""
    log: str = ""
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Stayed:
    model: str
    machine: str
    threads: str


def stay(request: Stay, progress: Any) -> Stayed:
    machine = os.environ.get("QFUND_TEST_MACHINE", "")
    if request.log:
        with Path(request.log).open("a") as file:
            file.write(f"{request.model} {machine}\n")
    progress(f"pid {os.getpid()} {machine}", 0.5)
    while request.gate and Path(request.gate).exists():
        time.sleep(0.02)
    return Stayed(request.model, machine, os.environ.get("OMP_NUM_THREADS", ""))


def memory(request: Stay) -> int:
    return int(request.gib * GIB)


def identify(request: Stay) -> str:
    return "weights"


KIND = Kind(
    "stay", f"{_HERE}:Stay", f"{_HERE}:Stayed", f"{_HERE}:stay", identify=f"{_HERE}:identify", memory=f"{_HERE}:memory"
)


class Machines:
    """They, as processes. About 80 MB of object store each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        root = str(Path(__file__).resolve().parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._cluster: Any = RayCluster()
        self.nodes: dict[str, Any] = {name: self.add(name) for name in MACHINES}
        self._cluster.wait_for_nodes()
        self.address = str(self._cluster.address)

    def add(self, name: str) -> Any:
        cpus, memory = MACHINES[name]
        return self._cluster.add_node(
            wait=False,
            num_cpus=cpus,
            memory=memory,
            object_store_memory=80 * 1024**2,
            include_dashboard=False,
            env_vars={"QFUND_TEST_MACHINE": name},
        )

    def remove(self, name: str) -> None:
        """As if it lost its power."""
        self._cluster.remove_node(self.nodes.pop(name), allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@functools.cache
def machines() -> Machines:
    """Started once in a process. Skips the test where there is no Ray."""
    import pytest

    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -r requirements-dev.txt")
    made = Machines()
    atexit.register(made.shutdown)
    return made


if __name__ == "__main__":
    from tests.engine import clustered

    KINDS[clustered.KIND.name] = clustered.KIND
    if sys.argv[1:] == ["driver"]:
        driver.main(_HERE)
    main()
