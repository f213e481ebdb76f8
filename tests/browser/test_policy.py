"""What the server's policy lets a browser do: all that pages need, and nothing of another site's."""

from urllib.request import urlopen

import pytest

from qfund.core.feature import Page
from qfund.features import FEATURES
from tests.browser.visit import Arrive, Visit
from tests.patience import until

_RECORD = (
    "window.refused = []; document.addEventListener('securitypolicyviolation',"
    " e => window.refused.push(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`))"
)


def _recording(visit: Visit) -> list[str]:
    """What browsers say in their console of what a policy refused."""
    said: list[str] = []
    visit.page.add_init_script(_RECORD)
    visit.page.on("console", lambda line: said.append(line.text) if "Content Security Policy" in line.text else None)
    return said


@pytest.mark.parametrize("row", [feature.page for feature in FEATURES if feature.page], ids=lambda row: row.path)
def test_a_page_needs_nothing_that_the_policy_refuses(arrive: Arrive, row: Page) -> None:
    visit = arrive()
    said = _recording(visit)
    visit.open(f"/{'' if row.default else row.path}").drawn()
    # Streamlit's pages ask for a font or a stylesheet of other hosts only where a theme names them, and none does.
    assert visit.page.evaluate("window.refused") == [] and said == []


def test_a_script_that_a_stranger_brings_in_is_not_run(arrive: Arrive) -> None:
    visit = arrive()
    said = _recording(visit)
    visit.open("/guide").drawn()
    visit.page.evaluate(
        """() => {
            const script = document.createElement('script'); script.textContent = 'window.stolen = 1'
            document.body.append(script)
            const image = document.createElement('div'); image.innerHTML = '<img src=x onerror="window.stolen = 2">'
            document.body.append(image)
        }"""
    )
    until(lambda: visit.page.evaluate("window.refused.length") >= 2)
    assert visit.page.evaluate("window.stolen") is None and len(said) >= 2


def test_no_foreign_page_shows_it_in_a_frame(arrive: Arrive) -> None:
    visit = arrive()
    visit.page.goto("data:text/html,<title>elsewhere</title>")
    visit.page.set_content(f"<iframe src='{visit.server.url}/guide'></iframe>")
    until(lambda: len(visit.page.frames) == 2)
    frame = visit.page.frames[1]
    frame.wait_for_load_state()
    assert visit.server.url not in frame.url
    with urlopen(f"{visit.server.url}/guide") as answer:
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
