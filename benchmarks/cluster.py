"""Jobs on three machines of a Ray cluster (processes here) beside the same jobs on one worker: wall time.

The jobs wait and compute nothing, so what is measured is handing over, and not how many cores this machine has. Each
server does a few first, so that its workers are there.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from qfund.engine.cluster import Cluster
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from tests.engine import clustered, killed


def _seconds(folder: Path, count: int, seconds: float, cluster: Cluster | None) -> float:
    """From the first request to the last result."""
    store = Store(f"sqlite:///{folder}/{'cluster' if cluster else 'here'}.db")
    jobs = Jobs(store, command=killed.WORKER, cluster=cluster, capacity=1000, places=1000)
    try:
        for name, each in (("warm", 0.2), ("model", seconds)):
            begun = time.monotonic()
            many = 12 if name == "warm" else count
            keys = [jobs.submit(killed.Write(f"{name} {number}", str(folder), each)).key for number in range(many)]
            for key in keys:
                jobs.wait(key)
            assert all(store.get(killed.KIND, key) is not None for key in keys)
        return time.monotonic() - begun
    finally:
        jobs.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a job takes")
    options = parser.parse_args()
    KINDS[killed.KIND.name] = killed.KIND
    os.environ["QFUND_RAY_ADDRESS"] = clustered.machines().address
    with tempfile.TemporaryDirectory() as folder:
        here = _seconds(Path(folder), options.jobs, options.seconds, None)
        there = _seconds(Path(folder), options.jobs, options.seconds, Cluster((*killed.WORKER, "driver"), 3))
    rounds = -(-options.jobs // 3) * options.seconds
    print(f"{options.jobs} jobs of {options.seconds:g} s: one worker {here:.1f} s, three at once {there:.1f} s")
    print(f"{there / (here / 3):.2f} of a third; the jobs alone take {rounds:g} s, three at once")


if __name__ == "__main__":
    main()
