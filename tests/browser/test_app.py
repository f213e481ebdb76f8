"""What a person sees of a page that is the first request to a server."""

from playwright.sync_api import expect

from qfund.features.compare.request.spec import Spec
from tests.browser.visit import Arrive, Server, link


def test_a_page_can_be_the_first_request_to_a_fresh_server(arrive: Arrive, fresh: Server) -> None:
    """Quantiser, Memory and Precisions begin so in files of their own; ``features/test_pages.py`` runs them all so."""
    visit = arrive(at=fresh).open(link(Spec("dummy", max_tokens=99))).drawn()
    expect(visit.page.get_by_role("heading", name="Compare", exact=True, level=1)).to_be_visible()
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
    expect(visit.page).to_have_title("Compare · qfund")
    assert visit.query()["tokens"] == ["99"]
    visit.sees("Not measured yet")
