"""What a person sees of every page: on a telephone, in the dark, and as the first request to a server."""

import pytest
from playwright.sync_api import expect

from qfund.features.compare.request.spec import Spec
from tests.browser.visit import Arrive, Server, link


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_every_page_and_section_is_drawn_in_every_light_and_width(arrive: Arrive, width: int, dark: bool) -> None:
    visit = arrive(width=width, dark=dark).open().drawn()
    visit.heading("pydoc-llama: FP32")
    for section in ("Token by token", "Memory", "Data", "Fidelity"):
        visit.section(section).fits()
    for path, title in (("/precisions", "Precisions"), ("/sweep", "Sweep"), ("/saved", "Saved"), ("/guide", "Guide")):
        visit.open(path).drawn()
        expect(visit.page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        visit.fits()


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/saved", "Saved"),
        ("/guide", "Guide"),
        ("/precisions", "Precisions"),
        ("/memory", "Memory"),
        ("/questions?q=footprint", "Questions"),
        (link(Spec("dummy", max_tokens=99)), "Compare"),
    ],
)
def test_a_page_can_be_the_first_request_to_a_fresh_server(
    arrive: Arrive, fresh: Server, path: str, title: str
) -> None:
    visit = arrive(at=fresh).open(path).drawn()
    expect(visit.page.get_by_role("heading", name=title, exact=True, level=1)).to_be_visible()
    navigation = visit.page.get_by_test_id("stTopNavLink")
    expect(navigation).to_have_count(5)
    assert [text.strip() for text in navigation.all_inner_texts()][-1].endswith("Saved")
    for group, titles in (
        ("More", ["Layers", "Speed", "KV cache", "Sweep"]),
        ("Learn", ["Questions", "Quantiser", "Formats", "Guide"]),
    ):
        visit.page.get_by_test_id("stTopNavSection").filter(has_text=group).click()
        expect(visit.page.get_by_test_id("stTopNavDropdownLink")).to_contain_text(titles)
        visit.page.keyboard.press("Escape")
    expect(visit.page).to_have_title(f"{title} · qfund")
    if "tokens" in path:
        assert visit.query()["tokens"] == ["99"]
        visit.sees("Not measured yet")
