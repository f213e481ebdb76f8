"""What the server's policy refuses: whatever is another site's. That pages need nothing of it holds for every visit."""

from urllib.request import urlopen

from tests.browser.visit import Arrive
from tests.patience import until


def test_a_script_that_a_stranger_brings_in_is_not_run(arrive: Arrive) -> None:
    visit = arrive().open("/guide").drawn()
    visit.page.evaluate(
        """() => {
            const script = document.createElement('script'); script.textContent = 'window.stolen = 1'
            document.body.append(script)
            const image = document.createElement('div'); image.innerHTML = '<img src=x onerror="window.stolen = 2">'
            document.body.append(image)
        }"""
    )
    until(lambda: visit.page.evaluate("window.stolen || 1") and len(visit.refused) >= 2)
    assert visit.page.evaluate("window.stolen") is None
    visit.refused.clear()


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
    visit.refused.clear()
