"""What a person sees: a real server, a real worker and a real browser that can reach nothing but this machine.

Tests wait for what shall appear; none sleeps. ``QFUND_CHROMIUM`` names another browser.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from benchmarks.serving import ROOT, served
from qfund.features.compare.request.examples import EXAMPLE
from tests.browser.visit import Arrive, Server, Visit
from tests.features.compare.reports import make_report
from tests.patience import PATIENCE

OTHERS_BLOCKED = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
#: The pages of one context share a process, which has compiled Streamlit's scripts once: half of what a visit takes.
ONE_PROCESS = "--process-per-site"

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
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox", OTHERS_BLOCKED, ONE_PROCESS])


@pytest.fixture(scope="package")
def visitors(chromium: Browser, server: Server) -> Callable[[int], BrowserContext]:
    """Visitors by number, each with a browser of their own: a blank tab keeps its process from one test to the next."""

    @cache
    def visitor(_: int) -> BrowserContext:
        context = chromium.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        context.new_page().goto(f"{server.url}/_stcore/health")
        return context

    return visitor


@pytest.fixture
def arrive(visitors: Callable[[int], BrowserContext], server: Server) -> Iterator[Arrive]:
    """Opens pages, each as another visitor, of whom the server knows nothing; whatever they do, none calls another
    host, needs what the server's policy refuses, or raises an error."""
    visits: list[Visit] = []

    def open_page(at: Server | None = None, width: int = 1280) -> Visit:
        context = visitors(len(visits))
        context.clear_cookies()
        context.pages[0].evaluate("localStorage.clear()")
        page = context.new_page()
        page.emulate_media(color_scheme="light")
        visits.append(Visit(page, at or server).resize(width))
        return visits[-1]

    yield open_page
    for visit in visits:
        for page in visit.page.context.pages[1:]:
            page.close()
    for visit in visits:
        assert not visit.foreign, "a page called another host"
        assert not visit.refused
        assert not visit.errors
