"""Every page and section, light, dark and on a phone: drawn, no wider than the screen, and no rule of WCAG 2.2 AA
broken that axe can check, nor headings out of order."""

from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.visit import Arrive, Visit
from tests.patience import until

#: Of axe-core, as its PyPI package brings it.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
ALL = """{
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], rules: {"heading-order": {enabled: true}},
}"""
COLOURS = '{runOnly: {type: "rule", values: ["color-contrast"]}}'
BROKEN = """async () => (await axe.run(document, OPTIONS)).violations.map(
    rule => [rule.id, rule.nodes.map(node => `${node.target} ${node.any[0]?.message ?? ""}`)])"""
PHONE, DESK = 390, 1280
PAGES: dict[str, tuple[str, ...]] = {
    "/": ("Token by token", "Memory", "Data", "Fidelity"),
    "/memory": ("Sizes, explained", "Loading", "Modules", "Data", "Will it fit?"),
    **{f"/outputs{view}": () for view in ("", "?view=classes", "?view=embeddings", "?view=captions")},
    **{f"/{path}": () for path in ("layers", "speed", "kv", "precisions", "sweep", "saved", "questions", "guide")},
    **{f"/quantiser{asked}": () for asked in ("", "?bits=3", "?source=model&per=g32&bits=4")},
    "/formats?format=fp64": ("What each can hold", "Where real weights fall"),
}


def broken(visit: Visit, options: str) -> Any:
    return visit.page.evaluate(BROKEN.replace("OPTIONS", options))


def dark(visit: Visit) -> Visit:
    """As somebody sees it whose system turns dark while the page is open."""
    app = visit.page.get_by_test_id("stApp")
    light = app.evaluate("app => getComputedStyle(app).backgroundColor")
    visit.page.emulate_media(color_scheme="dark")
    expect(app).not_to_have_css("background-color", light)
    return visit.drawn()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_read_and_used_by_everybody(arrive: Arrive, path: str) -> None:
    """Opened on a phone, and then as wide as on a desk: what comes with the width is Streamlit's business."""
    visit = arrive(width=PHONE).open(path).drawn()
    assert not visit.page.get_by_test_id("stException").count()
    visit.fits()
    visit.page.evaluate(AXE)
    found = {"phone": broken(visit, ALL)}
    visit.resize(DESK).drawn()
    found["desk"] = broken(visit, ALL)
    dark(visit).fits()
    found["dark"] = broken(visit, COLOURS)
    for section in PAGES[path]:
        visit.section(section).fits()
        visit.resize(PHONE)
        until(visit.has_room)  # first it is as wide as it was
        visit.resize(DESK)
    assert not {state: rules for state, rules in found.items() if rules}
