"""Measure what the pages open on, and keep it beside the model:  python -m training.showcase

Run it again whenever the weights, the precisions or the report's schema change; a test fails while it is out of date.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

from dataclasses import replace
from pathlib import Path

from qfund import backends, report
from qfund.catalog import CATALOG, EVERY_PRECISION, EXAMPLE
from qfund.engine import compute
from qfund.report import PrecisionResult, Report
from qfund.spec import Spec, checked


def measure(spec: Spec) -> Report:
    found: Report = compute(checked(spec), progress=lambda phase, share: print(f"{share:4.0%} {phase}", flush=True))
    return found


def without_tensors(result: PrecisionResult) -> PrecisionResult:
    return replace(result, tensors=(), converted_modules=())


def write(found: Report, name: str) -> None:
    target: Path = CATALOG[found.spec.model].folder / name
    target.write_bytes(report.to_json(found))
    print(f"{target}: {target.stat().st_size:,} bytes")


def main() -> None:
    backends.quiet()
    write(measure(EXAMPLE), "comparison.json")
    # Of many precisions only the numbers are drawn; tokens and tensors would weigh megabytes.
    found = measure(EVERY_PRECISION)
    results = tuple(without_tensors(result) for result in found.results)
    write(replace(found, tokens=None, reference=without_tensors(found.reference), results=results), "precisions.json")


if __name__ == "__main__":
    main()
