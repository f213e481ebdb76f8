"""What a person sees of the page Precisions."""

import re
from dataclasses import replace

from playwright.sync_api import expect

from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from tests.browser.visit import Arrive, Server, chips


def test_precisions_are_filtered_selected_and_compared(arrive: Arrive, fresh: Server) -> None:
    """From a cold link to the page, by its table, to a comparison of two rows."""
    visit = arrive(at=fresh).open("/precisions?base=BF16").drawn()
    page = visit.page
    expect(page.get_by_role("radio", name="BF16")).to_be_checked()
    page.get_by_role("button", name="Codebook").click()
    page.wait_for_url(re.compile("family=Codebook"))
    table = page.locator("[class*=st-key-formats_]").get_by_test_id("stDataFrame")
    expect(table.locator("tbody td[aria-colindex='6']")).to_have_text(["nf4_bf16", "fp4_bf16"])
    compare = page.locator(".st-key-compare_these button")
    expect(compare).to_be_disabled()
    names = "NF4 (rest BF16)", "NF4 (rest BF16) and FP4 (rest BF16)"
    for row, said in enumerate(names):  # drawn on a canvas: clicked by place
        table.click(position={"x": 17, "y": 52 + 33 * row})
        expect(compare).to_have_text(re.compile(re.escape(f"Compare {said} on pydoc-llama")))
    compare.click()
    page.wait_for_url(re.compile("p=nf4_bf16&p=fp4_bf16"))
    expect(chips(visit)).to_have_text(["NF4 (rest BF16)", "FP4 (rest BF16)"])
    visit.sees("Not measured yet")
    assert visit.query() == to_query(replace(examples.EXAMPLE, precisions=("nf4_bf16", "fp4_bf16")))
