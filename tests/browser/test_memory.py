"""What a person sees of the page Memory."""

import re

from playwright.sync_api import expect

from tests.browser.visit import Arrive, Server


def test_memory_from_a_cold_link_to_another_context(arrive: Arrive, fresh: Server) -> None:
    """Headers at once, the exact plan from the worker, a bar that follows the context, and a link that keeps it."""
    visit = arrive(at=fresh).open("/memory?model=pydoc-llama&budget=16GiB&context=512").drawn()
    page = visit.page
    # The footprint of the shipped comparison: 8,133,248 bytes in BF16.
    expect(page.get_by_test_id("stMetric").filter(has_text="BF16, exact")).to_contain_text("7.76 MiB")
    first = page.locator(".ytick text").nth(0)  # the bar on top
    expect(first).to_contain_text("best")
    visit.drawn()
    before = first.text_content()
    context = page.get_by_role("combobox", name="Context")
    context.fill("1k")
    context.press("Enter")
    expect(first).not_to_have_text(before or "")
    page.wait_for_url(re.compile("context=1024"))
    page.reload()
    visit.sees("1,024 tokens × 1 in 16 GiB")
    for section in ("Sizes, explained", "Loading", "Modules", "Data"):
        visit.section(section)
    visit.sees("qfund fits pydoc-llama --budget 16GiB --context 1024")
