"""Pages without a browser: a server around them, jobs that a test decides about, and what a visitor reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from qfund.core.errors import QfundError
from qfund.core.parameters import Query
from qfund.core.request import Request
from qfund.engine import key_of
from qfund.engine.jobs import Job
from qfund.engine.store import Store
from qfund.ui import services
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


class FakeJobs:
    """Nothing runs: what is asked for is remembered, and stays at work until a test says what becomes of it."""

    def __init__(self) -> None:
        self.submitted: list[Any] = []
        self.cancelled: list[str] = []
        self.known: dict[str, Job] = {}
        self.refuse: QfundError | None = None

    def submit(self, request: Any) -> Job:
        if self.refuse:
            raise self.refuse
        self.submitted.append(request)
        return self.answer(request)

    def answer(self, request: Any) -> Job:
        return self.set(request, state="running", phase="loading BF16", share=0.25)

    def set(self, request: Request, **changes: Any) -> Job:
        key = key_of(request)
        self.known[key] = replace(Job(key, request), **changes)
        return self.known[key]

    def get(self, key: str) -> Job | None:
        return self.known.get(key)

    def cancel(self, key: str) -> bool:
        self.cancelled.append(key)
        del self.known[key]
        return True

    def warm(self) -> None:
        pass


Jobs = TypeVar("Jobs", bound=FakeJobs)


def with_jobs(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Let pages find these."""
    monkeypatch.setattr(services, "jobs", lambda: jobs)
    return jobs


def with_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Let pages find an empty one."""
    found = Store(f"sqlite:///{folder}/qfund.db")
    monkeypatch.setattr(services, "store", lambda: found)
    return found


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch, cold: bool = False) -> Iterator[None]:
    """A server that keeps nothing from another test and has drawn a page before, or not if it is ``cold``.

    AppTest makes every run a fresh server's first one, in which Streamlit runs a file of ``pages/`` without ``app.py``.
    """
    start = PagesManager.__init__

    def started(self: PagesManager, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        PagesManager.uses_pages_directory = False

    _forget()
    if not cold:
        monkeypatch.setattr(PagesManager, "__init__", started)
    monkeypatch.setattr(services, "warm_up", lambda: None)
    yield
    _forget()


def _forget() -> None:
    """As in a process that has served nobody."""
    st.cache_resource.clear()
    for made in (services._store, services._jobs, services._warmed):
        made.cache_clear()


def app(query: Mapping[str, str | list[str]] | None = None) -> AppTest:
    """The app at a link, before its first run."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    for name, values in (query or {}).items():
        at.query_params[name] = values
    return at


def opened(page: str, asked: Any = None, to_query: Callable[[Any], Query] | None = None) -> AppTest:
    """A page at a link, run once. ``asked`` is a query, or what ``to_query`` makes one of."""
    at = app(asked if to_query is None or asked is None or isinstance(asked, dict) else to_query(asked))
    at.switch_page(page).run()
    assert not at.exception
    return at


Open = Callable[..., AppTest]


def texts(at: AppTest, more: Sequence[str] = ()) -> str:
    """Everything that a visitor reads, roughly.

    Args:
        more: kinds of elements beside those that every page has.
    """
    kinds = ("title", "header", "subheader", "markdown", "caption", "error", "warning", "code", *more)
    said = [str(element.value) for kind in kinds if kind != "metric" for element in getattr(at, kind)]
    said += [f"{metric.label}: {metric.value}" for metric in at.metric if "metric" in more]
    return "\n".join(said).replace("\\", "")


def query(at: AppTest) -> dict[str, list[str]]:
    """What the address bar says."""
    return {name: value if isinstance(value, list) else [value] for name, value in at.query_params.items()}
