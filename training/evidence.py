"""Measure what the page *Nine questions* shows of the shipped models:  python -m training.evidence [MODEL …]

Run it again whenever the weights, the kinds of jobs or their schemas change; a test fails while it is out of date.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

import sys
from collections.abc import Iterator
from typing import Any

from qfund import backends
from qfund.catalog import CATALOG, EXAMPLE
from qfund.engine import compute, shipped
from qfund.questions import FEW, MANY, Asked
from qfund.report import Report
from qfund.spec import Request, Spec

#: Of a comparison that times.
RUNS = 3


def requests(model: str) -> Iterator[tuple[str, Request]]:
    """A name for each of a kind, and what the page asks for. The example's comparison ships by itself."""
    asked = Asked(model)
    yield "", asked.lesson
    yield "", asked.plan
    yield "", asked.load_peaks
    if asked.comparison != EXAMPLE:
        yield "", asked.comparison
    yield "many", asked.timing(MANY)
    yield "few", asked.timing(FEW)


def measure(request: Request) -> Any:
    return compute(request, progress=lambda phase, share: print(f"{share:4.0%} {phase}", flush=True))


def calmest(spec: Spec) -> Report:
    """Of some runs the one whose times scatter least: in the others the machine was busy with something else."""
    runs: list[Report] = [measure(spec) for _ in range(RUNS)]
    return min(runs, key=scatter)


def scatter(found: Report) -> float:
    """The sum of all times' relative errors."""
    own = [result.latency for result in found.results]
    others = [run.latency for result in found.results for run in result.libraries]
    return sum((one.se or 0.0) / one.value for one in (*own, *others) if one)


def main() -> None:
    backends.quiet()
    for model in sys.argv[1:] or CATALOG:
        for name, request in requests(model):
            result = calmest(request) if isinstance(request, Spec) and request.libraries else measure(request)
            path = shipped.write(request, result, name)
            print(f"{path}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
