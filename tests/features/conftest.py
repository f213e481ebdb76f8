"""What the tests of features' pages share: jobs that only remember, an empty store, a server around the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qfund.checkpoints import catalog
from qfund.engine import shipped as engine_shipped
from qfund.engine.store import Store
from qfund.features.compare.request import examples
from tests.features.compare.reports import make_report
from tests.ui import pages
from tests.ui.pages import FakeJobs, Open


@pytest.fixture
def jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pages.FakeJobs:
    """The ``FakeJobs`` of the test's own file where it has some that answer."""
    kind: type[pages.FakeJobs] = getattr(request.module, "FakeJobs", pages.FakeJobs)
    return pages.with_jobs(kind(), monkeypatch)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    return pages.with_store(tmp_path, monkeypatch)


@pytest.fixture
def shipped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shipped comparison is a small one, and weights are not read."""
    monkeypatch.setattr(catalog, "identity", lambda spec: "an identity")
    monkeypatch.setattr(
        engine_shipped, "find", lambda spec, key, **_: make_report() if spec == examples.EXAMPLE else None
    )
    with pages.server(monkeypatch, cold="cold" in request.fixturenames):
        yield


@pytest.fixture
def page_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: Store) -> Iterator[None]:
    with pages.server(monkeypatch, cold="cold" in request.fixturenames):
        yield


@pytest.fixture
def cold() -> None:
    """A server's first request is this page; see ``pages.server``."""


@pytest.fixture
def opened(jobs: FakeJobs, store: Store, shipped: None) -> Open:
    def run(query: dict[str, list[str]] | None = None, page: str | None = None, **state: object) -> AppTest:
        at = pages.app(query)
        for name, value in state.items():
            at.session_state[name] = value
        at.run()
        if page:
            at.switch_page(page).run()
        assert not at.exception
        return at

    return run
