"""The one seam between pages and the rest of qfund: store, jobs and catalog, shared by all sessions of a server.

Tests replace ``store`` and ``jobs``; nothing else in ``qfund.ui`` and ``pages/`` reaches them in another way.
"""

import importlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

import streamlit as st

from qfund import catalog
from qfund.engine import key_of
from qfund.engine.jobs import Job, Jobs
from qfund.errors import QfundError
from qfund.report import Report
from qfund.spec import Spec
from qfund.store import Saved, Store

#: Decoded reports that a server keeps: some megabytes each.
KEPT = 24
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
    """Decoded reports by key, the least recently used forgotten first: a rerun decodes no JSON."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Report] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Report | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: str, report: Report) -> None:
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
    report = report or catalog.showcase(spec)
    job = jobs().get(key) if report is None else None
    if job is not None and job.state == "done":
        report, problem = job.report, job.warning or problem
    if report is not None and problem is None:
        _reports().put(key, report)
    return Found(spec, key, report, job, problem)


@st.cache_resource(show_spinner=False)
def every_precision() -> Found | None:
    """The shipped comparison of the example model in every precision; read once for each server."""
    report = catalog.every_precision()
    return None if report is None else Found(report.spec, "every precision", report)


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
