"""What a person sees: a real server, a real worker and a real browser that can reach nothing but this machine.

Tests wait for what shall appear; none sleeps. ``QFUND_CHROMIUM`` names another browser.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.serving import ROOT, served
from qfund.features.compare.request.examples import EXAMPLE
from tests.browser.visit import Arrive, Server, Visit
from tests.features.compare.reports import make_report
from tests.patience import PATIENCE

OTHERS_BLOCKED = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

expect.set_options(timeout=PATIENCE * 1000)


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    with served(ROOT / "app.py", home, ROOT, "--server.fileWatcherType=none") as url:
        yield Server(url, home)


# Of the package, and no longer: while a browser is open, nothing else in its process can run an event loop.


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        # A comparison that is there from the start: every test finds a report whatever ships with the project.
        running.keep(EXAMPLE, make_report(EXAMPLE))
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server that has drawn no page yet."""
    with serving(tmp_path / "home") as running:
        yield running


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    given = os.environ.get("QFUND_CHROMIUM")
    path = given or ("/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else None)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox", OTHERS_BLOCKED])


@pytest.fixture
def arrive(chromium: Browser, server: Server) -> Iterator[Arrive]:
    """Opens pages; whatever they do, none calls another host, needs what the server's policy refuses, or raises an
    error."""
    contexts = []
    visits = []

    def open_page(at: Server | None = None, width: int = 1280, dark: bool = False) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        visits.append(Visit(context.new_page(), at or server))
        return visits[-1]

    yield open_page
    for context in contexts:
        context.close()
    for visit in visits:
        assert not visit.foreign, "a page called another host"
        assert not visit.refused
        assert not visit.errors
