"""What a person sees: a real server, a real worker and a real browser that can reach nothing but this machine.

Tests wait for what shall appear; none sleeps. ``QFUND_CHROMIUM`` names another browser.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright

from qfund.checkpoints import catalog
from qfund.core import codes
from qfund.engine import key_of
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.report import Alternatives
from qfund.features.compare.request.spec import Spec
from tests.features.compare.reports import disagreement, full_report, long_tokens, make_report

ROOT = Path(__file__).resolve().parents[2]

#: Imports, the first pages and a cold worker on a busy machine.
PATIENCE = 90_000  # ms

expect.set_options(timeout=PATIENCE)

OTHERS_BLOCKED = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

COMPARE = KINDS["compare"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """``streamlit run app.py`` with a home of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path


def serve(home: Path) -> Server:
    """Start a server that has answered nothing yet but that it is healthy."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QFUND_")}
    environment |= {"QFUND_HOME": str(home), "OMP_WAIT_POLICY": "passive"}
    log = home / "server.log"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true", "--server.fileWatcherType", "none"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    server = Server(process, f"http://127.0.0.1:{port}", log)
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2):
                return server
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The server does not start:\n{log.read_text()}") from None
            time.sleep(0.1)  # between two tries, not instead of a condition


def stop(server: Server) -> None:
    server.process.terminate()
    try:
        server.process.wait(15)
    except subprocess.TimeoutExpired:
        server.process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    # A comparison that is there from the start, so that every test finds a report whatever ships with the project.
    Store(f"sqlite:///{home}/qfund.db").put(COMPARE, key_of(examples.EXAMPLE), make_report(examples.EXAMPLE))
    running = serve(home)
    yield running
    stop(running)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server that has drawn no page yet."""
    running = serve(tmp_path)
    yield running
    stop(running)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield launched(playwright)


def launched(playwright: Playwright) -> Browser:
    given = os.environ.get("QFUND_CHROMIUM")
    path = given or ("/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else None)
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", OTHERS_BLOCKED])


@dataclass
class Visit:
    """A page and everything that it should not have done."""

    page: Page
    server: Server
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> "Visit":
        self.page.goto(self.server.url + path)
        return self

    def drawn(self) -> "Visit":
        """The page has arrived to its last element, the script has finished, and every chart is there."""
        self.page.wait_for_selector("[data-qfund-drawn]", state="attached", timeout=PATIENCE)
        expect(self.page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning", timeout=PATIENCE
        )
        self.page.wait_for_function(
            "[...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(e => e.querySelector('.main-svg'))",
            timeout=PATIENCE,
        )
        return self

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query, keep_blank_values=True)


Arrive = Callable[..., Visit]


@pytest.fixture
def arrive(chromium: Browser, server: Server) -> Iterator[Arrive]:
    contexts = []
    visits = []

    def open_page(at: Server | None = None, width: int = 1280, dark: bool = False) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        visit = Visit(page, at or server)
        here = urlsplit(visit.server.url).netloc
        page.on("request", lambda request: foreign(visit, here, request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visits.append(visit)
        return visit

    yield open_page
    for context in contexts:
        context.close()
    for visit in visits:
        assert not visit.foreign, "a page called another host"
        assert not visit.errors


def foreign(visit: Visit, here: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != here:
        visit.foreign.append(url)


def link(spec: Spec) -> str:
    return "/?" + urlencode(to_query(spec), doseq=True)


def heading(visit: Visit, text: str) -> None:
    expect(visit.page.get_by_role("heading", name=text)).to_be_visible(timeout=PATIENCE)


def test_the_first_page_shows_a_comparison(arrive: Arrive) -> None:
    visit = arrive().open().drawn()
    heading(visit, "pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only")
    expect(visit.page.get_by_text("50.4\u00a0% of the memory").first).to_be_visible()
    assert visit.query() == to_query(examples.EXAMPLE)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_every_page_and_section_is_drawn_in_every_light_and_width(arrive: Arrive, width: int, dark: bool) -> None:
    visit = arrive(width=width, dark=dark).open().drawn()
    heading(visit, "pydoc-llama: FP32")
    for section in ("Where", "Memory", "Data", "Fidelity"):
        visit.page.get_by_role("tab", name=section).click()
        visit.drawn()
        expect(visit.page.get_by_role("tab", name=section)).to_have_attribute("aria-selected", "true")
        wide = visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wide <= width, f"{section} scrolls sideways"
    for path, title in (("/precisions", "Precisions"), ("/saved", "Saved comparisons"), ("/guide", "Guide")):
        visit.open(path).drawn()
        expect(visit.page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        assert visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/saved", "Saved comparisons"),
        ("/guide", "Guide"),
        ("/precisions", "Precisions"),
        ("/memory", "Memory, to the byte"),
        ("/questions?q=footprint", "Nine questions"),
        (link(Spec("dummy", max_tokens=99)), "What lower precision"),
    ],
)
def test_a_page_can_be_the_first_request_to_a_fresh_server(
    arrive: Arrive, fresh: Server, path: str, title: str
) -> None:
    visit = arrive(at=fresh).open(path).drawn()
    heading(visit, title)
    navigation = visit.page.get_by_test_id("stTopNavLink")
    expect(navigation).to_have_count(5)
    assert [text.strip() for text in navigation.all_inner_texts()][-1].endswith("Saved")
    visit.page.get_by_test_id("stTopNavSection").filter(has_text="Learn").click()
    explained = visit.page.get_by_test_id("stTopNavDropdownLink")
    expect(explained).to_contain_text(["Questions", "Quantiser", "Formats", "Precisions", "Guide"])
    assert visit.page.title().startswith(("qfund", "Compare", "Memory", "Precisions", "Saved", "Questions", "Guide"))
    if "tokens" in path:
        assert visit.query()["tokens"] == ["99"]
        expect(visit.page.get_by_text("Not measured yet")).to_be_visible()


def test_memory_from_a_cold_link_to_another_context(arrive: Arrive, fresh: Server) -> None:
    """Headers at once, the exact plan from the worker, a bar that follows the slider, and a link that keeps it."""
    visit = arrive(at=fresh).open("/memory?model=pydoc-llama&budget=16GiB&context=512").drawn()
    page = visit.page
    # The footprint of the shipped comparison: 8,133,248 bytes in BF16.
    expect(page.get_by_test_id("stMetric").filter(has_text="BF16, exact")).to_contain_text("7.76 MiB", timeout=PATIENCE)
    first = page.locator(".ytick text").first
    expect(first).to_contain_text("best", timeout=PATIENCE)
    before = first.text_content()
    slider = page.get_by_role("slider", name="Context")
    slider.press("ArrowRight")
    expect(first).not_to_have_text(before or "", timeout=PATIENCE)
    page.wait_for_url(re.compile("context=1024"))
    page.reload()
    expect(page.get_by_text("1,024 tokens × 1 in 16 GiB")).to_be_visible(timeout=PATIENCE)
    for section in ("Sizes, explained", "Loading", "Modules", "Data"):
        page.get_by_role("tab", name=section).click()
        expect(page.get_by_role("tab", name=section)).to_have_attribute("aria-selected", "true")
        visit.drawn()
    expect(page.get_by_text("qfund fits pydoc-llama --budget 16GiB --context 1024")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1440])
def test_memory_never_scrolls_sideways(arrive: Arrive, width: int) -> None:
    visit = arrive(width=width, dark=width == 390).open("/memory").drawn()
    expect(visit.page.get_by_test_id("stTabs")).to_be_visible(timeout=PATIENCE)
    for section in ("Sizes, explained", "Loading", "Modules", "Data", "Will it fit?"):
        visit.page.get_by_role("tab", name=section).click()
        visit.drawn()
        assert visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width, section


def chips(visit: Visit) -> Locator:
    """The candidates that are chosen."""
    return visit.page.locator(".st-key-choice_precisions [data-tag]")


def test_own_pictures_are_captioned_end_to_end(arrive: Arrive, tmp_path: Path) -> None:
    """On a phone: the captions that ship are there at once; own pictures go through a real worker."""
    visit = arrive(width=390).open("/captions").drawn()
    heading(visit, "FP32 captions 486 of 500 held-out pictures exactly")
    pictures = visit.page.locator(".qfund-gallery img")
    expect(pictures).to_have_count(12)
    assert pictures.evaluate_all("all => all.every(e => e.complete && e.naturalWidth > 0)"), "a picture is not shown"
    assert visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    Image.new("RGB", (900, 600), (220, 40, 40)).save(tmp_path / "a <b>photo.jpg")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    visit.page.get_by_text("Your own", exact=True).click()
    files = [tmp_path / "a <b>photo.jpg", tmp_path / "bad.png"]
    visit.page.locator("input[type=file]").set_input_files(files)
    expect(visit.page.get_by_text("bad.png is not a picture that can be read.")).to_be_visible()
    visit.page.locator(".st-key-caption button").click()
    heading(visit, "1 picture, captioned in FP32")
    expect(pictures).to_have_attribute("alt", "a <b>photo.jpg")
    visit.drawn()


def test_sets_of_candidates_are_taken_at_once_and_kept_by_a_link(arrive: Arrive) -> None:
    visit = arrive().open("/?model=dummy&tokens=31").drawn()
    visit.page.get_by_role("button", name="Sets").click()
    visit.page.get_by_role("menuitem", name="From 8 bits down to 2").click()
    expect(chips(visit)).to_have_text([f"INT{bits} g32" for bits in (8, 6, 5, 4, 3, 2)])
    visit.page.get_by_role("button", name="Remove INT8 g32").click()
    expect(chips(visit)).to_have_count(5)
    expect(visit.page.get_by_text("These choices are not the comparison shown below")).to_be_visible()


def test_precisions_are_filtered_selected_and_compared(arrive: Arrive, fresh: Server) -> None:
    """From a cold link to the page, by its table, to a comparison of two rows."""
    visit = arrive(at=fresh).open("/precisions?base=BF16").drawn()
    page = visit.page
    expect(page.get_by_role("radio", name="BF16")).to_be_checked()
    page.get_by_role("button", name="Codebook").click()
    page.wait_for_url(re.compile("family=Codebook"))
    table = page.get_by_test_id("stDataFrame").first
    expect(table.locator("tbody td[aria-colindex='6']")).to_have_text(["nf4_bf16", "fp4_bf16"])
    compare = page.locator(".st-key-compare_these button")
    expect(compare).to_be_disabled()
    for row, said in enumerate(("NF4 on BF16", "NF4 on BF16 and FP4 on BF16")):  # drawn on a canvas: clicked by place
        table.click(position={"x": 17, "y": 52 + 33 * row})
        expect(compare).to_have_text(re.compile(f"Compare {said} on pydoc-llama"))
    compare.click()
    page.wait_for_url(re.compile("p=nf4_bf16&p=fp4_bf16"))
    expect(chips(visit)).to_have_text(["NF4 on BF16", "FP4 on BF16"])
    expect(page.get_by_text("Not measured yet")).to_be_visible()
    assert visit.query() == to_query(replace(examples.EXAMPLE, precisions=("nf4_bf16", "fp4_bf16")))


def test_compare_a_model_end_to_end(arrive: Arrive, server: Server) -> None:
    """Choose, compare, reload while it runs, see the report, copy its link, open that elsewhere, find it in Saved."""
    visit = arrive().open().drawn()
    page = visit.page
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="dummy").click()
    expect(page.get_by_text("These choices are not the comparison shown below")).to_be_visible()
    assert visit.query()["model"] == ["pydoc-llama"], "a draft is not what is shown"
    page.get_by_role("button", name="Remove FP16").click()
    expect(chips(visit)).to_have_text(["BF16", "INT8 weight-only"])
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile("model=dummy"))
    page.reload()  # the job outlives the page
    heading(visit, "dummy: FP32 against BF16 and INT8 weight-only")
    visit.drawn()
    assert visit.query() == to_query(Spec("dummy", precisions=("bf16", "int8")))
    expect(page.get_by_text("Half the memory (60 B instead of 120 B)")).to_be_visible()
    # The lesson's two numbers.
    document = downloaded(visit)
    bf16 = document["results"][0]["fidelity"]
    assert bf16["mean_abs_logit_diff"]["value"] == pytest.approx(0.000998, abs=2e-6)
    assert bf16["max_abs_logit_diff"]["value"] == pytest.approx(0.00169, abs=2e-6)

    page.get_by_role("button", name="Copy link").click()
    address = page.get_by_test_id("stPopoverBody").locator("code").inner_text().strip()
    assert address.startswith(server.url)
    elsewhere = arrive()
    elsewhere.page.goto(address)
    heading(elsewhere, "dummy: FP32 against BF16 and INT8 weight-only")
    assert elsewhere.query() == visit.query()

    elsewhere.page.get_by_test_id("stTopNavLink").filter(has_text="Saved").click()
    row = elsewhere.page.locator("[class*=st-key-saved_]").filter(has_text="dummy")
    expect(row).to_be_visible()
    row.get_by_role("button", name="Open").click()
    heading(elsewhere, "dummy: FP32 against BF16 and INT8 weight-only")
    assert elsewhere.query() == visit.query()


def downloaded(visit: Visit) -> dict[str, list[dict[str, dict[str, dict[str, float]]]]]:
    visit.page.get_by_role("tab", name="Data").click()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Whole report (JSON)").click()
    found: dict[str, list[dict[str, dict[str, dict[str, float]]]]] = json.loads(
        Path(download.value.path()).read_text("utf-8")
    )
    return found


def test_back_and_forward_move_between_comparisons(arrive: Arrive) -> None:
    visit = arrive().open().drawn()
    heading(visit, "pydoc-llama: FP32")
    visit.open(link(Spec("dummy", "bf16", ("fp32",), max_tokens=3)))
    expect(visit.page.get_by_text("Not measured yet")).to_be_visible()
    visit.page.go_back()
    heading(visit, "pydoc-llama: FP32")
    visit.page.go_forward()
    expect(visit.page.get_by_text("Not measured yet")).to_be_visible()
    assert visit.query()["tokens"] == ["3"]


def test_a_bad_link_is_told(arrive: Arrive) -> None:
    visit = arrive().open("/?model=pydoc-llama&p=bf61&p=bf16&tokens=many").drawn()
    warning = visit.page.get_by_test_id("stAlert")
    expect(warning).to_contain_text("Ignored unknown precision 'bf61'")
    expect(warning).to_contain_text("Ignored tokens='many'")


def test_a_model_that_is_not_there_is_told(arrive: Arrive) -> None:
    visit = arrive().open("/?model=pydoc-lama").drawn()
    alert = visit.page.get_by_test_id("stAlert")
    expect(alert).to_contain_text("Unknown model 'pydoc-lama'")
    expect(alert).to_contain_text("Did you mean: pydoc-llama?")
    expect(visit.page.get_by_text("Traceback")).to_have_count(0)


def test_tokens_answer_at_once_in_the_browser(arrive: Arrive) -> None:
    report = make_report(examples.EXAMPLE)
    assert report.tokens is not None
    visit = arrive().open().drawn()
    page = visit.page
    page.get_by_role("tab", name="Where").click()
    tokens = page.locator(".text .t")
    expect(tokens).to_have_count(len(report.tokens.pieces))
    tokens.nth(3).click()
    expect(page.locator(".panel .word")).to_have_text("·of")
    expect(page.locator(".panel .place")).to_have_text("token 4 of 10")
    # Position 2 predicts token 3.
    shares = page.locator(".panel .side").nth(0).locator(".share").all_inner_texts()
    assert len(shares) == 5
    assert float(shares[0].rstrip(" %")) == pytest.approx(100 * report.tokens.reference.probabilities[2][0], abs=0.06)
    # Keyboard, another candidate, another colour.
    page.locator(".text").press("ArrowRight")
    expect(page.locator(".panel .place")).to_have_text("token 5 of 10")
    page.get_by_role("radio", name="INT8 weight-only").click()
    expect(page.locator(".panel .side-title").nth(1)).to_have_text("INT8 weight-only expects")
    page.get_by_label("Colour tokens by").select_option("top")
    expect(page.locator(".ramp")).to_be_hidden()
    page.locator(".worst-list button").first.click()
    expect(page.locator(".text .t.on")).to_have_count(1)


def test_thousands_of_tokens_are_tiles_with_details_on_demand(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "int8"), max_tokens=4001)
    report = long_tokens(full_report(spec), 4000)
    assert report.tokens is not None
    Store(f"sqlite:///{server.log.parent}/qfund.db").put(COMPARE, key_of(spec), report)
    page = arrive(width=1000).open(link(spec)).drawn().page
    page.get_by_role("tab", name="Where").click()
    tiles = page.locator(".tiles")
    expect(page.locator(".panel .place")).to_contain_text("of 4,000")
    # Chosen at first: the position where the first candidate diverges most.
    every = codes.read_magnitudes(report.tokens.candidates["bf16"].every_kl)
    worst = int(every[:-1].argmax()) + 1
    expect(page.locator(".panel .place")).to_have_text(f"token {worst + 1:,} of 4,000")
    expect(page.locator(".text .t")).to_have_count(min(1024, 4000 - worst // 1024 * 1024))
    # Every position has its tile: a pixel of the canvas, coloured where something differs and clear where nothing is.
    size, pixels = page.locator(".tiles canvas").evaluate(
        "c => [[c.width, c.height], [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    )
    assert size[0] * size[1] >= 4000 > size[0] * (size[1] - 1)
    opaque = [alpha > 0 for alpha in pixels[3::4]]
    predicted = [index % 256 != 0 for index in range(4000)]
    assert opaque[:4000] == predicted and not any(opaque[4000:])
    # A click on the tile of token 3,001 shows the words around it.
    box = tiles.bounding_box()
    assert box is not None
    row, column = divmod(3000, size[0])
    tiles.click(position={"x": (column + 0.5) * box["width"] / size[0], "y": (row + 0.5) * box["height"] / size[1]})
    expect(page.locator(".panel .place")).to_have_text("token 3,001 of 4,000")
    expect(page.locator(".range")).to_have_text("tokens 2,049 to 3,072 of 4,000")
    expect(page.locator(".text .t.on")).to_have_count(1)
    tiles.press("ArrowRight")
    expect(page.locator(".panel .place")).to_have_text("token 3,002 of 4,000")
    page.get_by_role("button", name="← earlier").click()
    expect(page.locator(".panel .place")).to_have_text("token 1,025 of 4,000")


def test_a_margin_moves_the_answer_and_the_address_and_nothing_else(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "int4"), max_tokens=4002)
    Store(f"sqlite:///{server.log.parent}/qfund.db").put(COMPARE, key_of(spec), full_report(spec))
    visit = arrive(width=390).open(link(spec)).drawn()
    page = visit.page
    expect(page.locator(".qf-pill")).to_contain_text(["within your margin", "inconclusive"])
    field = page.get_by_role("spinbutton", name="Top token changed")
    field.fill("40")
    field.press("Enter")
    expect(page.locator(".qf-pill")).to_contain_text(["within your margin", "within your margin"])
    page.wait_for_url(re.compile("changed=40"))
    page.reload()
    expect(page.locator(".qf-pill")).to_contain_text(["within your margin", "within your margin"])
    expect(page.get_by_role("spinbutton", name="Top token changed")).to_have_value("40")
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390


def test_a_text_with_markup_is_shown_as_text(arrive: Arrive, server: Server) -> None:
    """Pieces of a text are text content: nothing in them is run or fetched."""
    text = 'http://evil.example www.evil.example a@evil.example <img src=x onerror="window.hacked=1">![a](b)'
    spec = Spec("dummy", precisions=("bf16",), text=text, max_tokens=11)
    report = make_report(spec)
    assert report.tokens is not None
    pieces = (text, "<b>", "</script>", "<script>window.hacked=1</script>", *report.tokens.pieces[4:])
    tokens = replace(report.tokens, pieces=pieces, vocabulary=pieces)
    Store(f"sqlite:///{server.log.parent}/qfund.db").put(COMPARE, key_of(spec), replace(report, tokens=tokens))
    visit = arrive().open(link(spec)).drawn()
    heading(visit, "dummy: FP32 against BF16")
    visit.page.get_by_role("tab", name="Where").click()
    expect(visit.page.locator(".text .t").first).to_have_text(text)
    for section in ("Memory", "Data"):
        visit.page.get_by_role("tab", name=section).click()
        visit.drawn()
    visit.open("/saved").drawn()
    expect(visit.page.get_by_text("own text").first).to_be_visible()
    expect(visit.page.get_by_test_id("stMain").locator("a[href*=evil]")).to_have_count(0)
    assert visit.page.evaluate("window.hacked") is None


def test_tokens_that_are_not_finite_are_never_called_equal(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "fp16"), max_tokens=13)
    report = make_report(spec)
    assert report.tokens is not None
    count = len(report.tokens.pieces)
    none = (None,) * count
    nothing = disagreement(none, none, none, Alternatives(((),) * count, ((),) * count))
    pieces = ("Return", "\ufffd", *report.tokens.pieces[2:])
    tokens = replace(report.tokens, pieces=pieces, candidates=report.tokens.candidates | {"fp16": nothing})
    Store(f"sqlite:///{server.log.parent}/qfund.db").put(COMPARE, key_of(spec), replace(report, tokens=tokens))
    page = arrive().open(link(spec)).drawn().page
    page.get_by_role("tab", name="Where").click()
    expect(page.locator(".broken-key")).to_be_hidden()
    expect(page.locator(".text .t").nth(1).locator(".mark")).to_have_text("\ufffd")
    page.get_by_role("radio", name="FP16").click()
    expect(page.locator(".broken-key")).to_be_visible()
    expect(page.locator(".text .t.broken")).to_have_count(count - 1)
    expect(page.locator(".worst-list")).to_have_text("Nothing here is finite, so nothing can be compared.")
    expect(page.locator(".panel .side-title")).to_have_count(1)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_numbers_of_a_candidate_stand_in_one_row_each(arrive: Arrive, width: int) -> None:
    page = arrive(width=width).open().drawn().page
    rows = page.locator(".qf-strips .qf-one")
    expect(rows).to_have_count(6)  # three candidates, two numbers each; the page may still be settling
    beside = """all => all.every(row => {
        const [what, value] = [".qf-what", ".qf-value"].map(part => row.querySelector(part).getBoundingClientRect());
        const end = row.closest(".qf-strips").getBoundingClientRect().right;
        const apart = Math.abs(what.top + what.bottom - value.top - value.bottom);
        return apart < 4 && what.right <= value.left && value.right <= end + 1;
    })"""
    assert rows.evaluate_all(beside), "a number has slipped, or is cut"


def test_a_comparison_is_deleted_after_asking(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("fp16",), max_tokens=12)
    Store(f"sqlite:///{server.log.parent}/qfund.db").put(COMPARE, key_of(spec), make_report(spec))
    visit = arrive().open("/saved").drawn()
    row = visit.page.locator(f".st-key-saved_{key_of(spec)}")
    row.get_by_role("button", name="Delete").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)


def test_a_prompt_of_ones_own_is_written_while_one_watches(arrive: Arrive) -> None:
    visit = arrive().open("/outputs?p=bf16&p=int2&tokens=8").drawn()
    visit.page.get_by_text("Your own", exact=True).click()
    box = visit.page.get_by_label("Your prompt")
    box.fill("def read_lines(path):\nRead the file and")
    box.press("Control+Enter")
    visit.page.wait_for_url(re.compile("prompt="))  # the prompt has been taken
    visit.page.get_by_role("button", name="Write").click()
    expect(visit.page.get_by_text("Where they part")).to_be_visible(timeout=PATIENCE)
    assert visit.drawn().query()["prompt"] == ["def read_lines(path):\nRead the file and"]
    expect(visit.page.locator("mark")).to_have_count(2)  # the first token that differs, on both sides
    for view in ("Embeddings", "Classes", "Text"):
        visit.page.get_by_test_id("stMain").get_by_text(view, exact=True).first.click()
        visit.drawn()
        wide = visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wide <= 1280, f"{view} scrolls sideways"


def test_a_question_is_guessed_measured_and_turned(arrive: Arrive, tmp_path: Path) -> None:
    """Shipped evidence after a guess, on a telephone; and a model that does not ship, run by the real worker."""
    visit = arrive(width=390).open("/questions?model=pydoc-llama&q=footprint").drawn()
    page = visit.page
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(0)
    page.get_by_role("radio", name="exactly 0.5").click()
    expect(page.get_by_text("0.5000039345").first).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(1)
    page.wait_for_url(re.compile("guess=ratio.1"))
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    page.get_by_role("button", name="7 · Loading").click()
    heading(visit, "7. Why load in low precision")
    folder = shutil.copytree(catalog.CATALOG["dummy"].folder, tmp_path / "own")
    visit.open(f"/questions?{urlencode({'model': str(folder), 'q': 'deepcopy'})}").drawn()
    page.get_by_role("button", name="Run the notebook").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("All 11 parameters are the same Python objects")).to_be_visible()
