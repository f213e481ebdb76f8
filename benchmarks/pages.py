"""How fast pages are: a warm rerun beside an empty Streamlit page, the first page drawn beside a page of text, and the
sentence that answers a click.

Both servers run at once, with the same configuration, and are asked in turn. The rerun is timed from the message that
asks for it to the message that says it is finished, over the browser's own protocol; the drawing in headless Chromium,
from opening the address to the last element being there.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import websockets
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.serving import ROOT, Address, served
from benchmarks.side_by_side import in_turn, show
from qfund.features import FEATURES
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec

ROUNDS = 20
SETTLE = 8.0  # seconds in which a worker ends what pages asked for
PAGES = ["" if row.page.default else row.page.path for row in FEATURES if row.page is not None]
EMPTY = "import streamlit as st\n"
TEXT = "import streamlit as st\nst.title('A page')\nst.write('Some text.')\nst.html('<i class=\"drawn\">end</i>')\n"
# Conditions in the browser that say how far a page is.
ELEMENTS = "document.querySelector('.drawn, [data-qfund-drawn]') !== null"
PICTURES = """[...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')].filter(
    e => [e, ...e.querySelectorAll('*')].some(part => part.shadowRoot?.querySelector('svg'))).length >= 4"""
SENTENCE = """[...document.querySelectorAll('.st-key-report h2')].some(e => e.textContent.includes('INT8'))
    && document.querySelector('.st-key-report [data-testid=stAlert]') !== null"""
CHOSEN = "document.querySelector('.st-key-choice_precisions').textContent.includes('FP16')"
CHROMIUM = os.environ.get("QFUND_CHROMIUM", "/usr/bin/chromium")


async def _rerun(socket: websockets.ClientConnection, page: str) -> float:
    message = BackMsg()
    message.rerun_script.page_name = page
    message.rerun_script.query_string = ""
    started = time.perf_counter()
    await socket.send(message.SerializeToString())
    while True:
        answer = ForwardMsg()
        answer.ParseFromString(bytes(await socket.recv(decode=False)))
        if answer.WhichOneof("type") == "script_finished":
            return time.perf_counter() - started


class Visitor:
    """One open session with a server, asked again and again for one page; ``taken``: seconds of each rerun."""

    def __init__(self, address: Address, page: str, loop: asyncio.AbstractEventLoop) -> None:
        self.address, self.page, self.loop = address, page, loop
        self.taken: list[float] = []
        self.socket = loop.run_until_complete(
            websockets.connect(
                address.replace("http", "ws") + "/_stcore/stream",
                subprotocols=[websockets.Subprotocol("streamlit")],
                max_size=None,
            )
        )

    def rerun(self) -> float:
        """Seconds of processor time that the server takes for it: others at work on this machine do not count."""
        before = self.address.processor()
        self.taken.append(self.loop.run_until_complete(_rerun(self.socket, self.page)))
        return self.address.processor() - before

    def leave(self) -> None:
        self.loop.run_until_complete(self.socket.close())


def drawn(page: Page, address: str, condition: str) -> float:
    """Seconds from opening the address to ``condition`` (JavaScript) being true."""
    page.goto("about:blank")
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(condition, timeout=60_000)
    return time.perf_counter() - started


def answered(page: Page, address: str, spec: Spec, preset: str | None = None) -> float:
    """Seconds from the click on *Compare* to the sentence that answers it, of the comparison of a link.

    Args:
        preset: candidates that are chosen before the click in place of the link's.
    """
    page.goto(f"{address}/?{urlencode(to_query(spec), doseq=True)}")
    page.wait_for_function(ELEMENTS, timeout=60_000)
    if preset:
        page.locator(".st-key-preset button").first.click()
        page.get_by_text(preset, exact=True).click()
        page.wait_for_function(CHOSEN, timeout=60_000)
    page.wait_for_timeout(500)  # nobody clicks while the page is still moving
    started = time.perf_counter()
    page.locator(".st-key-compare button").click()
    page.wait_for_function(SENTENCE, timeout=120_000)
    return time.perf_counter() - started


def main() -> None:
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
        for name, source in (("empty.py", EMPTY), ("text.py", TEXT)):
            (folder / name).write_text(source)
        with (
            served(ROOT / "app.py", folder / "home") as app,
            served(folder / "empty.py", folder, folder) as empty,
            served(folder / "text.py", folder, folder) as text,
        ):
            visitors = {"empty page": Visitor(empty, "", loop)}
            visitors |= {page or "compare": Visitor(app, page, loop) for page in PAGES}
            for visitor in visitors.values():  # what is drawn first is made, and may be worked out in a worker
                visitor.rerun()
            time.sleep(SETTLE)
            reruns = in_turn({name: visitor.rerun for name, visitor in visitors.items()}, ROUNDS)
            show("warm rerun, processor time", reruns, "empty page", "ms", 1000)
            taken = {name: visitor.taken[-ROUNDS:] for name, visitor in visitors.items()}
            show("warm rerun, from asking to the end", taken, "empty page", "ms", 1000)
            for visitor in visitors.values():
                visitor.leave()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_page(bypass_csp=True)  # what is waited for is evaluated in the page
                opened = in_turn(
                    {
                        "text page": lambda: drawn(page, text, ELEMENTS),
                        "first page, all but pictures": lambda: drawn(page, app, ELEMENTS),
                        "first page, pictures drawn": lambda: drawn(page, app, PICTURES),
                    },
                    ROUNDS // 2,
                )
                asked = (replace(EXAMPLE, precisions=("int8",), max_tokens=1000 + number) for number in count())
                clicked = in_turn(
                    {
                        "from what is stored": lambda: answered(
                            page, app, replace(EXAMPLE, precisions=("bf16",)), "BF16, FP16 and INT8"
                        ),
                        "measured anew, 1,000 tokens": lambda: answered(page, app, next(asked)),
                    },
                    ROUNDS // 4,
                )
                browser.close()
            show("address opened to page drawn, warm browser", opened, "text page", "ms", 1000)
            show("click on Compare to the sentence", clicked, "from what is stored", "s")
    medians = {name: statistics.median(values) for name, values in reruns.items()}
    worst = max(medians, key=lambda name: medians[name])
    times = medians[worst] / medians["empty page"]
    aims = "rerun at most ×10, first page at most ×2.5, the sentence in 2 s and 30 s"
    print(f"\naims: {aims}; the slowest rerun here: {worst}, ×{times:.1f}")


if __name__ == "__main__":
    main()
