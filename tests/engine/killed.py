"""A server that is killed in the middle of its work, again and again: ``python -m tests.engine.killed FOLDER COUNT``;
or what it stands on is.

It has jobs of the kind "log" (each writes down when it is done) in a database in the folder, or in the one and on the
cluster that the environment names: with COUNT it asks for as many, and always it goes on with what was left. It ends by
itself once nothing is left to do.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfund.core.feature import Kind
from qfund.engine import key_of
from qfund.engine.cluster import Cluster, driver
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from qfund.engine.worker import main

WORKER = (sys.executable, "-m", "tests.engine.killed")


@dataclass(frozen=True, slots=True)
class Write:
    model: str
    folder: str
    seconds: float = 0.0
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    model: str


def write(request: Write, progress: Any) -> Written:
    log = Path(request.folder) / "log"
    with log.open("a") as file:
        file.write(f"begin {request.model}\n")
    progress("writing", 0.5)
    time.sleep(request.seconds)
    with log.open("a") as file:
        file.write(f"end {request.model}\n")
    return Written(request.model)


_HERE = "tests.engine.killed"  # also where it is run
KIND = Kind(
    "log",
    f"{_HERE}:Write",
    f"{_HERE}:Written",
    f"{_HERE}:write",
    identify=f"{_HERE}:identify",
    memory=f"{_HERE}:memory",
)


def identify(request: Write) -> str:
    return "weights"


def memory(request: Write) -> int:
    return 256 * 1024**2


def asked(folder: Path, count: int, seconds: float) -> list[Write]:
    return [Write(f"model {number}", str(folder), seconds) for number in range(count)]


def opened(folder: Path) -> Store:
    return Store(os.environ.get("QFUND_DATABASE_URL") or f"sqlite:///{folder}/qfund.db")


def serve(folder: Path, count: int, seconds: float) -> None:
    store = opened(folder)
    cluster = Cluster((*WORKER, "driver"), 4) if "QFUND_RAY_ADDRESS" in os.environ else None
    jobs = Jobs(
        store,
        command=WORKER,
        cluster=cluster,
        identify=identify,
        capacity=1000,
        places=1000,
        ledger=Ledger(store),
    )
    jobs.look_after()
    for request in asked(folder, count, seconds):
        jobs.submit(request)
    print("asked", flush=True)
    for record in list(jobs._records.values()):
        jobs.wait(record.job.key)
    jobs.close()
    print("over", flush=True)


class Server:
    """It, as another process."""

    def __init__(self, folder: Path, count: int = 0, seconds: float = 0.0) -> None:
        command = [sys.executable, "-m", _HERE, str(folder), str(count), str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout
        assert self.said.readline() == "asked\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.said.close()

    def finish(self) -> None:
        assert self.said.readline() == "over\n"
        assert self.process.wait() == 0
        self.said.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many jobs have results, are told as lost or failed, are missing without a word, and were begun again although
    their result was there."""

    results: int
    told: int
    silent: int
    twice: int


def ordeal(
    folder: Path,
    count: int,
    seconds: float,
    kills: int,
    chance: random.Random,
    harm: "Callable[[Server], object] | None" = None,
) -> Outcome:
    """Ask a server for ``count`` jobs and kill it at ``kills`` random moments, each time let another one go on; or do
    ``harm`` to what it stands on at each of those moments."""
    store, log = opened(folder), folder / "log"
    keys = {request.model: key_of(request, identify) for request in asked(folder, count, seconds)}
    there: set[str] = set()
    twice = before = 0
    log.touch()
    server = Server(folder, count, seconds)
    for left in range(kills, -1, -1):
        if left:
            time.sleep(chance.uniform(0.0, 8 * seconds))
            server.kill() if harm is None else harm(server)
        else:
            server.finish()
            if harm is not None:  # it may have ended without its database
                Server(folder).finish()
        now = {model for model, key in keys.items() if store.get(KIND, key) is not None}
        text = log.read_text()  # later: what has a result has begun
        twice += sum(line.removeprefix("begin ") in there for line in text[before:].splitlines())
        there, before = now, len(text)
        if left and harm is None:
            server = Server(folder)
    ledger = Ledger(store)
    missing = [key for key in keys.values() if store.get(KIND, key) is None]
    told = [found[0].state for key in missing if (found := ledger.find(key)) is not None]
    over = [state for state in told if state in ("lost", "failed")]
    return Outcome(count - len(missing), len(over), len(missing) - len(over), twice)


if __name__ == "__main__":
    from tests.engine import killed

    KINDS[killed.KIND.name] = killed.KIND
    if len(sys.argv) == 1:
        main()
    if sys.argv[1] == "driver":
        driver.main(_HERE)
    killed.serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
