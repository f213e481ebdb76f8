"""Make the README's picture of the first page:  python -m benchmarks.screenshot [FILE]"""

import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.serving import ROOT, served

CHROMIUM = os.environ.get("QFUND_CHROMIUM", "/usr/bin/chromium")


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "first-page.png"
    target.parent.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        served(ROOT / "app.py", Path(home)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(address)
        page.wait_for_selector("[data-qfund-drawn]", state="attached", timeout=60_000)
        page.wait_for_load_state("networkidle")
        page.locator(".picture svg").nth(2).wait_for()  # the three beside each other
        page.screenshot(path=target)
        browser.close()
    print(target)


if __name__ == "__main__":
    main()
