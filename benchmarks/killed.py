"""What is killed at random moments: results lost, jobs lost in silence, jobs done again although there was a result.

``server``: a web server with a database has a queue of short jobs. It is killed (SIGKILL), at once another one takes
over, and so on. ``worker``: what measures for it. ``postgres``: its database, which is started again. ``node``: a
machine of the cluster that its jobs are on; another one joins.

What says of itself that it was killed three times in the middle, or in the middle of a worker, is counted apart.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from qfund.engine.kinds import KINDS
from tests.engine import clustered, databases, killed


def _worker(server: killed.Server) -> None:
    """Whatever is at work for it, here or on the cluster."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[-2:] == ["-m", "tests.engine.killed"]:
                process.kill()
                return


def _postgres(chance: random.Random) -> Callable[[killed.Server], None]:
    def harm(server: killed.Server) -> None:
        databases.postgres().kill()
        time.sleep(chance.uniform(0.0, 1.0))
        databases.postgres().start()

    return harm


def _node(chance: random.Random) -> Callable[[killed.Server], None]:
    def harm(server: killed.Server) -> None:
        machines = clustered.machines()
        name = chance.choice(["small", "large"])
        machines.remove(name)
        machines.nodes[name] = machines.add(name)

    return harm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("server", "worker", "postgres", "node"), nargs="?", default="server")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2, help="that a job takes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="the database is PostgreSQL")
    parser.add_argument("--cluster", action="store_true", help="jobs are on a Ray cluster")
    options = parser.parse_args()
    KINDS[killed.KIND.name] = killed.KIND
    chance = random.Random(options.seed)
    harm = {"server": None, "worker": _worker, "postgres": _postgres(chance), "node": _node(chance)}[options.what]
    with tempfile.TemporaryDirectory() as folder:
        if options.postgres or options.what == "postgres":
            os.environ["QFUND_DATABASE_URL"] = databases.url_of("postgres", Path(folder))
        if options.cluster or options.what == "node":
            os.environ["QFUND_RAY_ADDRESS"] = clustered.machines().address
        begun = time.monotonic()
        found = killed.ordeal(Path(folder), options.jobs, options.seconds, options.kills, chance, harm)
    took = time.monotonic() - begun
    print(f"{options.what}: {options.kills} kills, {options.jobs} jobs of {options.seconds:g} s, {took:.0f} s in all")
    print(f"results there: {found.results}; said to be lost or to have failed: {found.told}")
    print(f"lost in silence: {found.silent}; done again although the result was there: {found.twice}")


if __name__ == "__main__":
    main()
