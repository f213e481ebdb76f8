"""No page breaks a rule of WCAG 2.2 AA that axe can check, nor has headings out of order: light, dark, on a phone."""

from importlib.resources import files
from typing import Any

import pytest

from tests.browser.visit import Arrive

#: Of axe-core, as its PyPI package brings it.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
RULES = """async () => (await axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], rules: {"heading-order": {enabled: true}},
})).violations.map(rule => [rule.id, rule.nodes.map(node => `${node.target} ${node.any[0]?.message ?? ""}`)])"""
PAGES = (
    *("/", "/memory", "/outputs", "/outputs?view=classes", "/outputs?view=embeddings", "/outputs?view=captions"),
    *("/layers", "/speed", "/kv", "/precisions", "/sweep", "/saved", "/questions", "/quantiser", "/formats", "/guide"),
)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_every_page_can_be_used_by_everybody(arrive: Arrive, width: int, dark: bool) -> None:
    visit = arrive(width=width, dark=dark)
    broken: dict[str, Any] = {}
    for path in PAGES:
        visit.open(path).drawn()
        visit.page.evaluate(AXE)
        if found := visit.page.evaluate(RULES):
            broken[path] = found
    assert not broken
