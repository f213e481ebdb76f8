"""``/metrics`` for Prometheus: jobs by state, how long they waited and ran, where results were found, and memory.

They are nobody's but the operator's: asked from this machine itself, or with ``QFUND_METRICS_TOKEN``. Streamlit's own
are behind the same door.
"""

import functools
import hmac
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from qfund.core.machine import public
from qfund.engine.job import Job
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import kind_of
from qfund.ui import services
from qfund.ui.server.guard import host_of, is_loopback

_PATHS = ("/metrics", "/_stcore/metrics")
_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


class Collected:
    """What is counted of some jobs, from now on."""

    def __init__(self, jobs: Jobs) -> None:
        self.registry = CollectorRegistry()
        self._jobs = jobs
        labels = ("kind", "state")
        self._waits = Histogram(
            "qfund_job_wait_seconds", "From asking to beginning.", labels, registry=self.registry, buckets=_SECONDS
        )
        self._runs = Histogram(
            "qfund_job_run_seconds", "From beginning to end.", labels, registry=self.registry, buckets=_SECONDS
        )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        jobs.on_end.append(self._ended)

    def _ended(self, job: Job) -> None:
        labels = (kind_of(job.request).name, job.state)
        finished = job.finished or job.submitted
        self._waits.labels(*labels).observe(max((job.started or finished) - job.submitted, 0.0))
        if job.started is not None:
            self._runs.labels(*labels).observe(max(finished - job.started, 0.0))

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks."""
        jobs = GaugeMetricFamily("qfund_jobs", "Jobs that wait or run now.", labels=("lane", "state"))
        active = [("quick" if quick else "long", job.state) for job, quick in self._jobs.active()]
        for lane in ("long", "quick"):
            for state in ("queued", "running"):
                jobs.add_metric((lane, state), active.count((lane, state)))
        yield jobs
        found = CounterMetricFamily("qfund_results_found", "Where results that were looked for lay.", labels=("where",))
        for where in ("memory", "store", "shipped", "nowhere"):
            found.add_metric((where,), services.FOUND[where])
        yield found
        memory = GaugeMetricFamily("qfund_worker_resident_memory_bytes", "Of the workers.", labels=("lane",))
        for lane, pid in self._jobs.workers().items():
            if (size := _resident(pid)) is not None:
                memory.add_metric((lane,), size)
        yield memory


@functools.cache
def _of(jobs: Jobs) -> Collected:
    return Collected(jobs)


def _text() -> bytes:
    return generate_latest(_of(services.every_job()).registry)


async def _metrics(request: Request) -> Response:
    return Response(await anyio.to_thread.run_sync(_text), media_type="text/plain; version=0.0.4; charset=utf-8")


def _resident(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return None


class Private:
    """404 for whoever may not read metrics, as if there were none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._token = os.environ.get("QFUND_METRICS_TOKEN", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith(_PATHS) and not self._may(Request(scope)):
            await PlainTextResponse("Not Found", 404)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        if self._token:
            return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())
        # Behind a proxy on this machine everybody comes from here; a proxy says so, or the host is not this machine.
        forwarded = any(name.startswith(("x-forwarded", "forwarded", "x-real-ip", "via")) for name in request.headers)
        here = request.client is not None and is_loopback(request.client.host)
        return here and not forwarded and is_loopback(host_of(request.headers.get("host", "")) or "") and not public()


ROUTE = Route("/metrics", _metrics)
