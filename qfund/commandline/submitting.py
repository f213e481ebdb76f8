"""Many requests through the engine that a web server has: workers here, or a cluster that ``QFUND_ENGINE`` names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qfund.commandline.progress import say
from qfund.commandline.table import Option
from qfund.core.errors import EngineError
from qfund.core.request import Request

HERE = "here"
ENGINE = Option(
    "--engine",
    "where it is measured: in this process, one after the other; by a worker as the dashboard has; or on a Ray "
    f"cluster (default: {HERE})",
    default=HERE,
    choices=(HERE, "worker", "ray"),
)
#: Seconds between two looks at the jobs, and that one may run.
_EVERY, _LONGEST = 1.0, 30 * 86_400.0


class Submitted:
    """Requests that were handed to the engine, by key."""

    def __init__(self, jobs: Any, quiet: bool) -> None:
        self._jobs, self._quiet = jobs, quiet
        self._named: dict[str, str] = {}
        self._told: dict[str, str] = {}

    def submit(self, key: str, request: Request, name: str) -> None:
        """Raises ``QfundError`` as ``Jobs.submit``."""
        self._named[key] = name
        self._jobs.submit(request)

    def result(self, key: str) -> Any | None:
        """When it is there; None where it was done elsewhere, and is in the store.

        Raises:
            QfundError: it failed, or was cancelled.
        """
        while True:
            job = self._jobs.wait(key, _EVERY) or self._jobs.get(key)
            self._tell()
            if job is None or job.state == "done":
                return job.result if job is not None else None
            if not job.active:
                raise job.error or EngineError("The job did not finish.", "Start it again.")

    def cancel(self) -> None:
        for key in self._named:
            self._jobs.cancel(key)

    def _tell(self) -> None:
        if self._quiet:
            return
        for key, name in self._named.items():
            job = self._jobs.get(key)
            state = "done" if job is None else job.phase if job.state == "running" else job.state
            if state != self._told.get(key):
                self._told[key] = state
                share = f"{job.share:4.0%} " if job is not None and job.state == "running" else ""
                say(f"{name}: {share}{state or 'starting'}")


@contextmanager
def submitting(engine: str, many: int, quiet: bool) -> Iterator[Submitted]:
    """An engine with room for ``many``; what waits or runs there when this ends is cancelled, and goes on from what was
    kept of it when it is asked for again."""
    if engine == "ray":
        os.environ["QFUND_ENGINE"] = engine
    else:
        os.environ.pop("QFUND_ENGINE", None)
    from qfund.engine.jobs import Jobs
    from qfund.engine.shared.ledger import Ledger
    from qfund.engine.store import Store

    store = Store()
    jobs = Jobs(store, capacity=many, places=many, time_limit=_LONGEST, ledger=Ledger(store))
    submitted = Submitted(jobs, quiet)
    try:
        yield submitted
    finally:
        submitted.cancel()
        jobs.close()
