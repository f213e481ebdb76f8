"""How fast the linear quantiser follows its slider: from the slider's event to the frame that shows the answer.

In headless Chromium, on a 256 × 256 tile of the shipped model: the scale's slider is moved as a finger would, and time
runs until the heat maps and the figures (mean squared error) of the new scale are both in the page, to the next frame.
Beside it stand an empty Streamlit page's rerun, over the browser's own protocol, and a page that does nothing but write
the number of such a slider, in the same browser.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.pages import EMPTY, Visitor
from benchmarks.serving import ROOT, served
from benchmarks.side_by_side import in_turn, show

ROUNDS = 40
AIM = 0.150  # s
LINK = "/quantiser?source=model&model=pydoc-llama&part=tile&per=tensor"
WRITES = '''
import streamlit as st

SLIDER = st.components.v2.component("slider", html="<div class='quantiser'><div class='scale'><input type='range' "
    "max='1000'></div></div>", js="""export default function ({ data, parentElement, setStateValue }) {
    const input = parentElement.querySelector("input")
    input.oninput = () => setStateValue("move", Number(input.value))
    parentElement.querySelector(".quantiser").dataset.drawn = data
}""")

@st.fragment
def draw():
    place = st.container()
    moved = st.session_state.get("key", {}).get("move", 0)
    place.metric("Mean squared error", moved)
    SLIDER(data=moved, key="key", on_move_change=lambda: None)

draw()
st.html("<i data-qfund-drawn></i>")
'''
CHROMIUM = os.environ.get("QFUND_CHROMIUM", "/usr/bin/chromium")
#: Moves the slider to ``place`` and gives the milliseconds until maps and figures have answered and a frame is drawn.
MOVE = """
async (place) => {
  const deep = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.matches(".quantiser")) return child
      const found = child.shadowRoot && deep(child.shadowRoot)
      if (found) return found
    }
  }
  const root = deep(document)
  const metric = () => [...document.querySelectorAll("[data-testid=stMetric]")]
    .find((box) => box.textContent.includes("Mean squared error")).textContent
  const slider = root.querySelector(".scale input[type=range]")
  const before = [root.dataset.drawn, metric()]
  slider.value = place
  const started = performance.now()
  slider.dispatchEvent(new Event("input", { bubbles: true }))
  const frame = () => new Promise((done) => requestAnimationFrame(done))
  while (root.dataset.drawn === before[0] || metric() === before[1]) {
    await frame()
    if (performance.now() - started > 10000) throw new Error("no answer")
  }
  await frame()
  return performance.now() - started
}
"""


def moves(page: Page) -> float:
    """Seconds of one move, to a place where the slider was not before."""
    place = 200 + (page.__dict__.setdefault("_moves", 0) * 137) % 601
    page.__dict__["_moves"] += 1
    return float(page.evaluate(MOVE, place)) / 1000


def main() -> None:
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
        for name, source in (("empty.py", EMPTY), ("writes.py", WRITES)):
            (folder / name).write_text(source)
        with (
            served(ROOT / "app.py", folder / "home") as app,
            served(folder / "empty.py", folder, folder) as empty,
            served(folder / "writes.py", folder, folder) as writes,
            sync_playwright() as playwright,
            ThreadPoolExecutor(1) as apart,  # Playwright's loop and the visitor's do not share a thread
        ):
            visitor = apart.submit(Visitor, empty, "", loop).result()
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            pages = {}
            for name, address in (("quantiser", app + LINK), ("a number only", writes)):
                pages[name] = browser.new_page(viewport={"width": 1280, "height": 1600})
                pages[name].goto(address)
                pages[name].wait_for_selector("[data-qfund-drawn]", state="attached", timeout=60_000)
                pages[name].wait_for_timeout(2000)
            things = {"empty page, rerun": lambda: apart.submit(visitor.rerun).result()}
            for name, page in pages.items():

                def measured(page: Page = page) -> float:
                    page.bring_to_front()
                    return moves(page)

                things[f"{name}, slider to frame"] = measured
            found = in_turn(things, ROUNDS)
            apart.submit(visitor.leave).result()
            browser.close()
    show("one move of the scale's slider, 256 × 256", found, "empty page, rerun", "ms", 1000)
    took = found["quantiser, slider to frame"]
    late = sum(seconds > AIM for seconds in took)
    print(f"\naim: under {1000 * AIM:.0f} ms; median {1000 * statistics.median(took):.0f} ms, {late} of {ROUNDS} later")


if __name__ == "__main__":
    main()
