"""What is known about comparisons: stored, shipped, or being measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.engine import key_of, shipped
from qfund.engine.jobs import Job
from qfund.engine.store import Saved
from qfund.features.compare.request import examples
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.ui.services import jobs, public, results, store

#: Earlier comparisons of a model that are read for the bytes that they counted.
READ = 8


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
    if (held := results().get(key)) is not None:
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
        results().put(key, report)
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
    report = results().get(key) or shipped.find(spec, found.key, whole=False)
    if report is None:
        return found
    results().put(key, report)
    return replace(found, key=key, report=report)


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
    every = every_precision() if model == examples.EXAMPLE.model and not also else None
    if every is not None and every.report is not None:
        yield every.report


@st.cache_resource(show_spinner=False)
def every_precision() -> Found | None:
    """The shipped comparison of the example model in every precision, in numbers only; read once for each server."""
    spec = examples.EVERY_PRECISION
    report = shipped.find(spec, key_of(spec), whole=False)
    return None if report is None else Found(spec, "every precision", report)


def saved_report(key: str) -> Report | None:
    """A stored report by its key.

    Raises:
        StoreError: the database refuses.
    """
    held = results().get(key) or store().get(key)
    if held is not None:
        results().put(key, held)
    return held


def forget(key: str) -> None:
    """Delete a stored report.

    Raises:
        StoreError: the database refuses.
    """
    store().delete(key)
    results().forget(key)


def saved() -> list[Saved]:
    """Earlier comparisons, newest first; on a public server without those of a visitor's own text.

    Raises:
        StoreError: the database refuses.
    """
    return [row for row in store().saved() if row.text is None or not public()]
