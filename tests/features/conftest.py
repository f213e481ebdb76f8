"""What the tests of features' pages share: jobs that only remember, an empty store, a server around the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.engine.store import Store
from tests.ui import pages


@pytest.fixture
def jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pages.FakeJobs:
    """The ``FakeJobs`` of the test's own file where it has some that answer."""
    kind: type[pages.FakeJobs] = getattr(request.module, "FakeJobs", pages.FakeJobs)
    return pages.with_jobs(kind(), monkeypatch)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    return pages.with_store(tmp_path, monkeypatch)


@pytest.fixture
def page_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: Store) -> Iterator[None]:
    with pages.server(monkeypatch, cold="cold" in request.fixturenames):
        yield


@pytest.fixture
def cold() -> None:
    """A server's first request is this page; see ``pages.server``."""
