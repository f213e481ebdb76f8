"""Write what the page Outputs opens on, and keep it beside the model:  python -m training.generation

Run it again whenever the weights, the precisions or the result's schema change; a test fails while it is out of date.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

from pathlib import Path

import msgspec

from qfund import backends, embeddings, generation
from qfund.catalog import CATALOG
from qfund.engine import compute
from qfund.spec import Request


def main() -> None:
    backends.quiet()
    _measure(embeddings.EXAMPLE, "embeddings.json")
    _measure(generation.EXAMPLE, "generation.json")


def _measure(request: Request, name: str) -> None:
    target: Path = CATALOG[request.model].folder / name
    target.write_bytes(msgspec.json.encode(compute(request, progress=_Printed())))
    print(f"{target}: {target.stat().st_size:,} bytes")


class _Printed:
    """Every phase once."""

    def __init__(self) -> None:
        self._said: str | None = None

    def __call__(self, phase: str, share: float) -> None:
        if phase != self._said:
            print(f"{share:4.0%} {phase}", flush=True)
        self._said = phase


if __name__ == "__main__":
    main()
