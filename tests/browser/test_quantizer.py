"""What a person sees of the pages Quantiser and Formats, in a real browser that can reach nothing but this machine."""

import re

from playwright.sync_api import Locator, expect

from qfund.features.compare.request.examples import EXAMPLE
from tests.browser.visit import Arrive, Server, Visit
from tests.patience import until


def figure(visit: Visit, label: str) -> Locator:
    return visit.page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue")


def says(visit: Visit, label: str, value: str) -> None:
    visit.sees(figure(visit, label).filter(has_text=re.compile(f"^{re.escape(value)}$")))


def test_a_link_is_the_first_request_to_a_fresh_server(arrive: Arrive, fresh: Server) -> None:
    visit = arrive(at=fresh).open("/formats?format=bf16&number=1/7").drawn()
    expect(visit.page.get_by_role("heading", name="Formats", exact=True, level=1)).to_be_visible()
    expect(visit.page.get_by_test_id("stTopNavSection").filter(has_text="Learn")).to_be_visible()
    says(visit, "Value", "0.142578125")
    assert visit.query()["number"] == ["1/7"] and visit.query()["bits"] == ["0x3E12"]


def test_the_course_by_hand(arrive: Arrive) -> None:
    visit = arrive().open("/quantiser").drawn()
    page = visit.page
    says(visit, "Mean squared error", "1.573")
    # Exactly the course's first try, by its two numbers.
    page.get_by_role("spinbutton", name="Scale, exactly").fill("3.5")
    page.get_by_role("spinbutton", name="Scale, exactly").press("Enter")
    says(visit, "Scale", "3.5")
    page.get_by_role("spinbutton", name="Zero-point, exactly").fill("-70")
    page.get_by_role("spinbutton", name="Zero-point, exactly").press("Enter")
    says(visit, "Mean squared error", "170.88")
    expect(page).to_have_url(re.compile(r"[?&]s=3\.5&z=-70"))
    # Another weight is worked through, and stands in the link.
    page.get_by_role("button", name="Integers, row 1, column 3").click()
    visit.sees("Worked through: w[0, 2]")
    expect(page).to_have_url(re.compile(r"cell=0%2C2"))
    expect(page.locator(".read")).to_contain_text("w[0, 2] = 728.6")
    # What cannot be is told, and nothing is lost.
    page.get_by_role("spinbutton", name="Scale, exactly").fill("0")
    page.get_by_role("spinbutton", name="Scale, exactly").press("Enter")
    visit.sees("The scale 0 is not positive.")
    says(visit, "Mean squared error", "170.88")
    page.get_by_role("button", name="As the rule chooses").click()
    says(visit, "Mean squared error", "1.573")
    expect(page.get_by_text("The scale 0 is not positive.")).to_be_hidden()
    expect(page).not_to_have_url(re.compile(r"[?&]s="))


#: Of a canvas, as one text.
PIXELS = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).join()"


def test_a_slider_redraws_maps_and_figures(arrive: Arrive) -> None:
    visit = arrive().open(f"/quantiser?source=model&model={EXAMPLE.model}&bits=4").drawn()
    page = visit.page
    maps = page.locator(".map canvas")
    expect(maps).to_have_count(4)
    until(lambda: all("255" in maps.nth(place).evaluate(PIXELS) for place in range(4)))  # painted
    before = [maps.nth(place).evaluate(PIXELS) for place in range(4)]
    error = figure(visit, "Mean squared error").inner_text()
    page.get_by_role("slider", name="Scale", exact=True).press("PageUp")
    expect(figure(visit, "Mean squared error")).not_to_have_text(error)
    expect(page).to_have_url(re.compile(r"[?&]s="))
    for place in (1, 2, 3):
        until(lambda place=place: maps.nth(place).evaluate(PIXELS) != before[place])  # type: ignore[misc]
    assert maps.nth(0).evaluate(PIXELS) == before[0], "the weights stay what they are"
    page.reload()
    visit.drawn()
    expect(figure(visit, "Mean squared error")).not_to_have_text(error)


def test_bits_are_turned_over(arrive: Arrive) -> None:
    visit = arrive().open("/formats?format=fp8_e4m3&bits=0x7E").drawn()
    page = visit.page
    says(visit, "Value", "448")
    page.get_by_role("switch", name="fraction, bit 3 of 3: 0").click()
    says(visit, "Value", "nan")
    says(visit, "Kind", "NaN")
    expect(page).to_have_url(re.compile(r"bits=0x7F"))
    page.get_by_role("switch", name="exponent, bit 1 of 4: 1").click()
    says(visit, "Value", "1.875")
    page.get_by_role("radio", name="INT8").click()
    says(visit, "Value", "2")
    says(visit, "Kind", "integer")
    page.get_by_role("textbox", name="Number").fill("66246")
    page.get_by_role("textbox", name="Number").press("Enter")
    expect(page.get_by_test_id("stCode").filter(has_text="FP16")).to_contain_text(re.compile(r"FP16\s+inf"))
