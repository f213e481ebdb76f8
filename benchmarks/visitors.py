"""How long visitors wait for a rerun, while nobody measures anything and while jobs run: p50 and p95.

Each visitor is a session over the browser's own protocol, on one page, and asks for a rerun again and again after some
seconds of thought. Two servers take turns, A B A B: one without jobs, and one with as many as it can do, which it finds
in its database as left by a server before it.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import websockets

from benchmarks.pages import _rerun
from benchmarks.serving import ROOT, served
from qfund.engine import key_of, upkeep
from qfund.engine.job import Job, Record
from qfund.engine.kinds import kind_of
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from qfund.features.compare.request.spec import Spec

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


def leave_jobs(home: Path, count: int) -> None:
    """Have a server's database say that jobs wait. In another process, so that whoever left them is gone."""
    store = Store(f"sqlite:///{home}/qfund.db")
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


async def crowd(address: str, count: int, seconds: float, waits: Waits) -> None:
    end = time.monotonic() + seconds
    visitors = (
        visit(address, PAGES[number % len(PAGES)], end, random.uniform(0, THOUGHT[1]), waits) for number in range(count)
    )
    await asyncio.gather(*visitors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=150.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=2, help="of each server")
    parser.add_argument("--leave-jobs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leave_jobs:
        leave_jobs(options.leave_jobs, 20)
        return
    waits = {"without jobs": Waits(), "with jobs": Waits()}
    for turn in range(options.turns):
        for name, found in waits.items():
            with tempfile.TemporaryDirectory() as folder:
                if name == "with jobs":
                    subprocess.run([sys.executable, "-m", __spec__.name, "--leave-jobs", folder], check=True, cwd=ROOT)
                with served(ROOT / "app.py", Path(folder)) as address:
                    asyncio.run(crowd(address, options.visitors, options.seconds, found))
                jobs = upkeep.sizes(Store(f"sqlite:///{folder}/qfund.db")).jobs
            print(f"turn {turn + 1}, {options.visitors} visitors {name} {jobs or ''}: {found}", flush=True)


if __name__ == "__main__":
    main()
