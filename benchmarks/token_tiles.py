"""How fast the tiles of a token map are:  python -m benchmarks.token_tiles

Reports of 16,384 and 65,536 made-up positions with three candidates are shown by a real server in headless Chromium:
what the browser gets, how long it paints one candidate's tiles (measured in the page itself) beside laying out one
element for each token, and how long it takes from the click on the section to its first picture.
"""

import statistics
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

from benchmarks.pages import CHROMIUM, ELEMENTS
from benchmarks.serving import ROOT, served
from qfund.engine import key_of
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.report import to_json
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view.token_map import payload
from tests.features.compare.reports import full_report, long_tokens

COUNTS = (16_384, 65_536)
ROUNDS = 5
DRAWN = "document.querySelector('.tiles canvas')?.width > 1 || performance.getEntriesByName('qfund-tiles').length > 0"
#: One span a token in a block of text that scrolls, painted once: what a text of as many tokens would take as words.
SPANS = """count => {
  const began = performance.now()
  const text = document.createElement("div")
  text.style.cssText = "width:60rem;max-height:40rem;overflow:auto;position:absolute;visibility:hidden"
  for (let i = 0; i < count; i++) {
    const span = document.createElement("span")
    span.textContent = " word"
    span.style.background = `rgba(213, 94, 0, ${(i % 10) / 10})`
    text.append(span)
  }
  document.body.append(text)
  text.getBoundingClientRect()
  const took = performance.now() - began
  text.remove()
  return took
}"""

COMPARE = KINDS["compare"]


def spec(count: int) -> Spec:
    return replace(examples.EXAMPLE, model="dummy", max_tokens=count)


def opened(page: Page, address: str, count: int) -> tuple[float, list[float]]:
    """Seconds from the click on the section to its picture, and milliseconds of each painting of the tiles."""
    page.goto(f"{address}/?{urlencode(to_query(spec(count)), doseq=True)}")
    page.wait_for_function(ELEMENTS, timeout=120_000)
    tab = page.get_by_role("tab", name="Where")
    tab.wait_for(timeout=120_000)
    started = time.perf_counter()
    tab.click()
    page.wait_for_function(DRAWN, timeout=120_000)
    took = time.perf_counter() - started
    for name in ("FP16", "INT8 weight-only", "BF16"):
        page.get_by_role("radio", name=name).click()
    paints: list[float] = page.evaluate("performance.getEntriesByName('qfund-tiles').map(entry => entry.duration)")
    return took, paints


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        store = Store(f"sqlite:///{home}/qfund.db")
        for count in COUNTS:
            report = long_tokens(full_report(spec(count)), count)
            store.put(COMPARE, key_of(spec(count)), report)
            data = payload(report, "key")
            print(
                f"{count:,} positions × 3 candidates: {len(data):,} bytes to the browser "
                f"({len(zlib.compress(data)):,} compressed), {len(to_json(report)):,} bytes of report"
            )
        with served(ROOT / "app.py", home) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            for count in COUNTS:
                runs = [opened(page, address, count) for _ in range(ROUNDS)]
                paints = [paint for _, found in runs for paint in found]
                spans = statistics.median(page.evaluate(SPANS, count) for _ in range(ROUNDS))
                median = statistics.median(paints)
                print(
                    f"{count:,} tiles: painted in {median:.1f} ms (worst {max(paints):.1f}), from click to picture "
                    f"{1000 * statistics.median(took for took, _ in runs):.0f} ms; as many words laid out take "
                    f"{spans:.0f} ms, ratio {median / spans:.3f}"
                )
            browser.close()


if __name__ == "__main__":
    main()
