"""A visit to a page in a real browser, and how to wait there for what one has asked for.

Streamlit leaves what stood on a page in its place until the new is complete. So after a click first something is waited
for that only this click brings (``sees``, an address, a count), and only then whatever comes with it (``drawn``).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import Locator, Page, expect

from qfund.core.request import Request
from qfund.engine import key_of
from qfund.engine.kinds import kind_of
from qfund.engine.store import Store
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec


@dataclass(frozen=True)
class Server:
    """``streamlit run app.py`` with a home of its own."""

    url: str
    home: Path

    def keep(self, request: Request, result: Any) -> None:
        """Let it have measured this."""
        Store(f"sqlite:///{self.home}/qfund.db").put(kind_of(request), key_of(request), result)


@dataclass
class Visit:
    """A page and everything that it should not have done."""

    page: Page
    server: Server
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self._said(line.text))

    def _said(self, line: str) -> None:
        if "Content Security Policy" in line:
            self.refused.append(line)

    def _requested(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.server.url).netloc:
            self.foreign.append(url)

    def open(self, path: str = "/") -> "Visit":
        self.page.goto(self.server.url + path)
        return self

    def drawn(self) -> "Visit":
        """The page has arrived to its last element, the script has finished, and every chart is there."""
        self.page.wait_for_selector("[data-qfund-drawn]", state="attached")
        expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
        expect(self.page.locator("[data-testid=stPlotlyChart]:not(:has(.main-svg))")).to_have_count(0)
        return self

    def sees(self, what: str | Locator) -> None:
        """One such text or element is on the page, and no other one is left from before."""
        found = self.page.get_by_text(what) if isinstance(what, str) else what
        expect(found.filter(visible=True)).to_have_count(1)

    def heading(self, text: str) -> None:
        self.sees(self.page.get_by_role("heading", name=text))

    def section(self, name: str) -> "Visit":
        """Open a section by its tab; it is drawn when it is opened, not before."""
        tab = self.page.get_by_role("tab", name=name)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        self.page.get_by_role("tabpanel", name=name).get_by_test_id("stElementContainer").filter(
            visible=True
        ).first.wait_for()
        return self.drawn()

    def resize(self, width: int) -> "Visit":
        self.page.set_viewport_size({"width": width, "height": 900})
        return self

    def has_room(self) -> bool:
        """Whether nothing scrolls sideways."""
        size = self.page.viewport_size
        wide = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        return size is not None and wide <= size["width"]

    def fits(self) -> None:
        assert self.has_room(), f"{self.page.url} scrolls sideways"

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query, keep_blank_values=True)


Arrive = Callable[..., Visit]


def link(spec: Spec) -> str:
    return "/?" + urlencode(to_query(spec), doseq=True)


def chips(visit: Visit) -> Locator:
    """The candidates that are chosen on the page Compare."""
    return visit.page.locator(".st-key-choice_precisions [data-tag]")
