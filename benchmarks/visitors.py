"""How long visitors wait for a rerun, while nobody measures anything and while jobs run: p50 and p95.

Each visitor is a session over the browser's own protocol, on one page, and asks for a rerun again and again after some
seconds of thought. Two ways take turns, A B A B: without jobs, and with as many as can be done, which are found in the
database as left by a server before. Several servers share a database and the visitors.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import websockets

from benchmarks.pages import _rerun
from benchmarks.serving import ROOT, served
from qfund.engine import key_of, upkeep
from qfund.engine.job import Job, Record
from qfund.engine.kinds import kind_of
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from qfund.features.compare.request.spec import Spec
from tests.engine import databases

PAGES = ("", "memory", "precisions", "formats", "quantiser", "guide", "questions", "saved")
THOUGHT = (5.0, 15.0)  # seconds between two reruns of one visitor


@dataclass(slots=True)
class Waits:
    """Seconds of all reruns."""

    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        found = sorted(self.seconds)
        p50, p95 = statistics.median(found), found[int(0.95 * (len(found) - 1))]
        return f"{len(found):,} reruns, p50 {p50:.2f} s, p95 {p95:.2f} s, longest {found[-1]:.1f} s"


def leave_jobs(url: str, count: int) -> None:
    """Have a server's database say that jobs wait. In another process, so that whoever left them is gone."""
    store = Store(url)
    ledger = Ledger(store)
    for number in range(count):
        asked = Spec("pydoc-llama", precisions=("int8", "int4"), max_tokens=16384 - number)
        spec = kind_of(asked).checked(asked)
        ledger.claim(Record(Job(key_of(spec), spec, submitted=time.time())))


async def visit(address: str, page: str, end: float, first: float, waits: Waits) -> None:
    """One visitor, who comes after ``first`` seconds and goes at ``end``."""
    url = address.replace("http", "ws") + "/_stcore/stream"
    async with websockets.connect(url, subprotocols=[websockets.Subprotocol("streamlit")], max_size=None) as socket:
        await asyncio.sleep(first)
        await _rerun(socket, page)  # the page is opened: not counted
        while True:
            await asyncio.sleep(random.uniform(*THOUGHT))
            if time.monotonic() > end:
                return
            waits.seconds.append(await _rerun(socket, page))


async def crowd(addresses: Sequence[str], count: int, seconds: float, waits: Sequence[Waits]) -> None:
    """Visitors of all servers in turn, whose waits are those of their server."""
    end = time.monotonic() + seconds
    visitors = []
    for number in range(count):
        server, page = number % len(addresses), PAGES[number // len(addresses) % len(PAGES)]
        visitors.append(visit(addresses[server], page, end, random.uniform(0, THOUGHT[1]), waits[server]))
    await asyncio.gather(*visitors)


def servers_now() -> list[tuple[int, int]]:
    """Bytes that each server holds alone or with others, and its workers."""
    found = []
    for process in psutil.Process().children():
        if "streamlit" in process.cmdline():
            workers = sum(each.memory_full_info().pss for each in process.children(recursive=True))
            found.append((process.memory_full_info().pss, workers))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=150.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=2, help="of each server")
    parser.add_argument("--servers", type=int, default=1, help="of one database, each with its part of the visitors")
    parser.add_argument("--postgres", action="store_true", help="the database is PostgreSQL")
    parser.add_argument("--leave-jobs", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leave_jobs:
        leave_jobs(options.leave_jobs, 20)
        return
    waits = {name: [Waits() for _ in range(options.servers)] for name in ("without jobs", "with jobs")}
    for turn in range(options.turns):
        for name, found in waits.items():
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                url = databases.url_of("postgres" if options.postgres else "sqlite", Path(folder) / "qfund.db")
                if name == "with jobs":
                    subprocess.run([sys.executable, "-m", __spec__.name, "--leave-jobs", url], check=True, cwd=ROOT)
                homes = [Path(folder) / f"server {number + 1}" for number in range(options.servers)]
                settings = {"QFUND_DATABASE_URL": url}
                addresses = [stack.enter_context(served(ROOT / "app.py", home, settings=settings)) for home in homes]
                before = servers_now()
                asyncio.run(crowd(addresses, options.visitors, options.seconds, found))
                after = servers_now()
                jobs = upkeep.sizes(Store(url)).jobs
            print(f"turn {turn + 1}, {options.visitors} visitors {name} {jobs or ''}")
            for each, (first, _), (last, workers) in zip(found, before, after, strict=True):
                print(f"  {each}; {first >> 20} → {last >> 20} MiB, its workers {workers >> 20} MiB", flush=True)


if __name__ == "__main__":
    main()
