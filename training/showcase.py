"""Measure what the first page opens on, and keep it beside the model:  python -m training.showcase

Run it again whenever the weights, the precisions or the report's schema change; a test fails while it is out of date.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

from qfund import report
from qfund.catalog import CATALOG, EXAMPLE
from qfund.measures.compare import compare
from qfund.spec import checked


def main() -> None:
    found = compare(checked(EXAMPLE), lambda phase, share: print(f"{share:4.0%} {phase}", flush=True))
    target = CATALOG[EXAMPLE.model].folder / "comparison.json"
    target.write_bytes(report.to_json(found))
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
