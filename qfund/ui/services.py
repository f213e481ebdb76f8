"""The one seam between pages and the rest of qfund: store, jobs and catalog, shared by all sessions of a server.

Tests replace ``store`` and ``jobs``; nothing else in ``qfund.ui`` and ``pages/`` reaches them in another way.
"""

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from qfund import catalog, plan
from qfund.engine import key_of, recall, shipped
from qfund.engine.jobs import Job, Jobs
from qfund.engine.kinds import kind_of
from qfund.errors import QfundError
from qfund.plan import HeaderPlan, PlanRequest
from qfund.report import Report
from qfund.spec import Request, Spec
from qfund.store import Saved, Store

#: Decoded reports that a server keeps: some megabytes each.
KEPT = 24
#: Earlier comparisons of a model that are read for the bytes that they counted.
READ = 8
#: The longest own text that this page takes, in characters; the command line takes longer ones.
MAX_TEXT = 4000


@st.cache_resource(show_spinner=False)
def store() -> Store:
    return Store()


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    return Jobs(store())


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Import what the first chart needs while the first visitor still reads; once for each server."""

    def work() -> None:
        for name in ("pandas", "pyarrow", "plotly.graph_objects", "plotly.io", "qfund.figures", "qfund.tables"):
            importlib.import_module(name)

    threading.Thread(target=work, name="warm-up", daemon=True).start()


def prepare_worker() -> None:
    """Somebody is about to compare: let the worker import what the first job needs."""
    jobs().warm()


def public() -> bool:
    """Whether strangers share this server (``QFUND_PUBLIC=1``): nothing can be deleted, own texts are not listed."""
    return os.environ.get("QFUND_PUBLIC", "") not in ("", "0")


class _Reports:
    """Decoded reports and other results by key, the least recently used forgotten first: a rerun decodes no JSON."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Any | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: str, report: Any) -> None:
        with self._lock:
            self._held[key] = report
            self._held.move_to_end(key)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)

    def forget(self, key: str) -> None:
        with self._lock:
            self._held.pop(key, None)


@st.cache_resource(show_spinner=False)
def _reports() -> _Reports:
    return _Reports()


@dataclass(frozen=True, slots=True)
class Found:
    """What is known about a comparison: its report, or the job that works on it, or neither. ``problem`` says why the
    store did not give or keep it; it can be shown and measured all the same."""

    spec: Spec
    key: str
    report: Report | None = None
    job: Job | None = None
    problem: str | None = None


def find(spec: Spec) -> Found:
    """Look a comparison up; never starts work.

    Raises:
        QfundError: the model cannot be identified.
    """
    key = key_of(spec)
    if (held := _reports().get(key)) is not None:
        return Found(spec, key, held)
    problem = None
    try:
        report = store().get(key)
    except QfundError as error:
        report, problem = None, f"Saved results cannot be read. {error}"
    report = report or shipped.find(spec, key)
    job = jobs().get(key) if report is None else None
    if job is not None and job.state == "done":
        report, problem = job.report, job.warning or problem
    if report is not None and problem is None:
        _reports().put(key, report)
    return Found(spec, key, report, job, problem)


def find_numbers(spec: Spec) -> Found:
    """As ``find``; one that ships may lack what there is of each token, tensor and layer.

    Raises:
        QfundError: as ``find``.
    """
    found = find(spec)
    if found.report is not None:
        return found
    key = f"{found.key} in numbers"
    report = _reports().get(key) or shipped.find(spec, found.key, whole=False)
    if report is None:
        return found
    _reports().put(key, report)
    return replace(found, key=key, report=report)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about a request of any kind: its result, or the latest job for it, or neither. ``problem`` says why
    the store did not give or keep the result."""

    key: str
    result: Any = None
    job: Job | None = None
    problem: str | None = None


def look_up(request: Request) -> Answer:
    """What is known about ``request``; never starts work.

    Raises:
        QfundError: a malformed request, or a model that cannot be identified.
    """
    key = key_of(request)
    if (held := _reports().get(key)) is not None:
        return Answer(key, held)
    result, problem = None, None
    try:
        result = recall(store(), kind_of(request), key)
    except QfundError as error:
        problem = f"Saved results cannot be read. {error}"
    result = result or shipped.find(request, key)
    job = jobs().get(key)
    if job is not None and job.state == "done":
        result, problem = job.result or result, job.warning or problem
    if result is not None and problem is None and not (job and job.active):  # it may be measured anew just now
        _reports().put(key, result)
    return Answer(key, result, job, problem)


def ask(request: Request) -> Answer:
    """As ``look_up``, and starts the work where nothing is known. Only for what takes a second and little memory: a
    link that is opened may do it.

    Raises:
        QfundError: as ``look_up``; or too many jobs wait.
    """
    found = look_up(request)
    if found.result is None and found.job is None:
        job = jobs().submit(request)
        return Answer(found.key, job.result, job, found.problem)
    return found


def forget_answer(key: str) -> None:
    """It is being measured anew."""
    _reports().forget(key)


def headers(request: PlanRequest) -> HeaderPlan:
    """What the checkpoint's headers alone tell, in every float cast, read in this process: milliseconds on a disk.

    Raises:
        QfundError: the model is not there, or its headers are malformed.
    """
    if catalog.locate(request.model, request.revision).folder is not None:
        return plan.headers(replace(request, precisions=()), _silently)
    found = _hub_headers(request)
    if isinstance(found, QfundError):
        raise found
    return found


@st.cache_data(ttl=120, max_entries=32, show_spinner="Reading headers from the Hub")
def _hub_headers(request: PlanRequest) -> HeaderPlan | QfundError:
    """A failure is remembered too, so that a rerun asks the network nothing."""
    try:
        return plan.headers(replace(request, precisions=()), _silently)
    except QfundError as error:
        return error


def _silently(phase: str, share: float) -> None:
    """No progress: there is little to wait for."""


def reports_of(model: str, revision: str | None, also: tuple[str, ...]) -> Iterator[Report]:
    """Comparisons of exactly these weights that were measured earlier, newest first, then the one that ships.

    Raises:
        QfundError: the model cannot be identified, or the store refuses.
    """
    identity = catalog.identity(Spec(model, revision=revision))
    rows = [row for row in store().saved() if (row.model, row.revision, row.also) == (model, revision, also)]
    for row in rows[:READ]:
        report = saved_report(row.key)
        if report is not None and identity == f"{report.environment.model_id} on {catalog.device()}":
            yield report
    every = every_precision() if model == catalog.EXAMPLE.model and not also else None
    if every is not None and every.report is not None:
        yield every.report


@st.cache_resource(show_spinner=False)
def every_precision() -> Found | None:
    """The shipped comparison of the example model in every precision, in numbers only; read once for each server."""
    spec = catalog.EVERY_PRECISION
    report = shipped.find(spec, key_of(spec), whole=False)
    return None if report is None else Found(spec, "every precision", report)


def saved_report(key: str) -> Report | None:
    """A stored report by its key.

    Raises:
        StoreError: the database refuses.
    """
    held = _reports().get(key) or store().get(key)
    if held is not None:
        _reports().put(key, held)
    return held


def forget(key: str) -> None:
    """Delete a stored report.

    Raises:
        StoreError: the database refuses.
    """
    store().delete(key)
    _reports().forget(key)


def saved() -> list[Saved]:
    """Earlier comparisons, newest first; on a public server without those of a visitor's own text.

    Raises:
        StoreError: the database refuses.
    """
    return [row for row in store().saved() if row.text is None or not public()]
