"""What a person meets who goes from page to page and back: one entry of the history a click, and a name for each."""

import re

import pytest
from playwright.sync_api import Page, expect

from qfund.engine import key_of
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec
from tests.browser.visit import Arrive, Server, Visit
from tests.features.compare.reports import make_report


def _click(visit: Visit, title: str) -> None:
    # An icon is text to a filter, and that of the KV cache is named after memory.
    link = visit.page.get_by_test_id("stTopNavLink").filter(has=visit.page.get_by_text(title, exact=True))
    link.click()
    _arrived(visit.page, title)


def _arrived(page: Page, title: str) -> None:
    expect(page).to_have_title(f"{title} · qfund")
    expect(page.get_by_role("heading", name=title, exact=True, level=1)).to_be_visible()
    path = "/" if title == "Compare" else f"/{title.lower()}"
    page.wait_for_url(re.compile(rf"^http://[^/]+{path}(\?.+)?$"))


def test_back_goes_through_what_was_seen_and_nothing_else(arrive: Arrive) -> None:
    visit = arrive().open("/?model=pydoc-llama&changed=7").drawn()
    began = visit.page.evaluate("history.length")
    opened = [visit.page.url]
    for title in ("Memory", "Outputs", "Saved"):
        _click(visit, title)
        if title != "Saved":
            visit.page.wait_for_url(re.compile("model=pydoc-llama"))
        visit.drawn()
        opened.append(visit.page.url)
    assert visit.page.evaluate("history.length") == began + 3, "one entry a click"
    for title, address in zip(("Outputs", "Memory", "Compare"), opened[2::-1], strict=True):
        visit.page.go_back()
        _arrived(visit.page, title)
        assert visit.drawn().page.url == address
    assert visit.query()["changed"] == ["7"], "the margin is there again"
    visit.page.go_forward()
    _arrived(visit.page, "Memory")
    assert visit.drawn().page.url == opened[1]


def test_back_from_a_saved_comparison_is_saved(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("fp16",), max_tokens=14)
    server.keep(spec, make_report(spec))
    visit = arrive().open().drawn()
    _click(visit, "Saved")
    visit.drawn()
    began = visit.page.evaluate("history.length")
    visit.page.locator(f".st-key-saved_{key_of(spec)}").get_by_role("button", name="Open").click()
    visit.heading("dummy: FP32 against FP16")
    visit.page.wait_for_url(re.compile(r"/\?.*model=dummy"))
    assert visit.query() == to_query(spec)
    assert visit.page.evaluate("history.length") == began + 1
    visit.page.go_back()
    _arrived(visit.page, "Saved")
    expect(visit.page).to_have_url(re.compile("/saved$"))


@pytest.mark.parametrize(
    ("path", "title", "kept"),
    [
        ("/compare?model=dummy&tokens=99", "Compare", {"model": ["dummy"], "tokens": ["99"]}),
        ("/captions?samples=24", "Outputs", {"view": ["captions"], "samples": ["24"]}),
    ],
)
def test_what_a_page_was_called_still_opens_it(
    arrive: Arrive, path: str, title: str, kept: dict[str, list[str]]
) -> None:
    visit = arrive().open(path).drawn()
    _arrived(visit.page, title)
    assert kept.items() <= visit.query().items()
