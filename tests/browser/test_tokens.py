"""What a person sees of the tokens of a comparison, which the browser draws."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from qfund.core import codes
from qfund.engine import key_of
from qfund.features.compare.request import examples
from qfund.features.compare.request.report import Alternatives
from qfund.features.compare.request.spec import Spec
from tests.browser.visit import Arrive, Server, link
from tests.features.compare.reports import disagreement, full_report, long_tokens, make_report


def test_tokens_answer_at_once_in_the_browser(arrive: Arrive) -> None:
    report = make_report(examples.EXAMPLE)
    assert report.tokens is not None
    visit = arrive().open().drawn()
    page = visit.page
    page.get_by_role("tab", name="Token by token").click()
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
    page.get_by_role("listbox", name="The text, token by token").press("ArrowRight")
    expect(page.locator(".panel .place")).to_have_text("token 5 of 10")
    page.get_by_role("radio", name="INT8 weight-only").click()
    expect(page.locator(".panel .side-title").nth(1)).to_have_text("INT8 weight-only expects")
    page.get_by_label("Colour tokens by").select_option("top")
    expect(page.locator(".ramp")).to_be_hidden()
    page.locator(".worst-list button").nth(0).click()
    expect(page.locator(".text .t.on")).to_have_count(1)


def test_thousands_of_tokens_are_tiles_with_details_on_demand(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "int8"), max_tokens=4001)
    report = long_tokens(full_report(spec), 4000)
    assert report.tokens is not None
    server.keep(spec, report)
    page = arrive(width=1000).open(link(spec)).drawn().page
    page.get_by_role("tab", name="Token by token").click()
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


def test_a_text_with_markup_is_shown_as_text(arrive: Arrive, server: Server) -> None:
    """Pieces of a text are text content: nothing in them is run or fetched."""
    text = 'http://evil.example www.evil.example a@evil.example <img src=x onerror="window.hacked=1">![a](b)'
    spec = Spec("dummy", precisions=("bf16",), text=text, max_tokens=11)
    report = make_report(spec)
    assert report.tokens is not None
    pieces = (text, "<b>", "</script>", "<script>window.hacked=1</script>", *report.tokens.pieces[4:])
    tokens = replace(report.tokens, pieces=pieces, vocabulary=pieces)
    server.keep(spec, replace(report, tokens=tokens))
    visit = arrive().open(link(spec)).drawn()
    visit.heading("dummy: FP32 against BF16")
    visit.page.get_by_role("tab", name="Token by token").click()
    expect(visit.page.locator(".text .t").nth(0)).to_have_text(text)
    for section in ("Memory", "Data"):
        visit.section(section)
    visit.open("/saved").drawn()
    visit.sees(visit.page.locator(f".st-key-saved_{key_of(spec)}").get_by_text("own text"))
    expect(visit.page.get_by_test_id("stMain").locator("a[href*=evil]")).to_have_count(0)
    assert visit.page.evaluate("window.hacked") is None


def test_tokens_that_are_not_finite_are_never_called_equal(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "fp16"), max_tokens=13)
    report = make_report(spec)
    assert report.tokens is not None
    count = len(report.tokens.pieces)
    none = (None,) * count
    empty = Alternatives(((),) * count, ((),) * count)
    candidates = {
        "bf16": disagreement((0.5,) * count, (0.1,) * count, (True,) * count, empty),
        "fp16": disagreement(none, none, none, empty),
    }
    pieces = ("Return", "\ufffd", *report.tokens.pieces[2:])
    tokens = replace(report.tokens, pieces=pieces, candidates=candidates)
    server.keep(spec, replace(report, tokens=tokens))
    page = arrive().open(link(spec)).drawn().page
    page.get_by_role("tab", name="Token by token").click()
    expect(page.locator(".text .t").nth(1).locator(".mark")).to_have_text("\ufffd")
    expect(page.locator(".broken-key")).to_be_hidden()
    expect(page.locator(".text .t.broken")).to_have_count(0)
    page.get_by_role("radio", name="FP16").click()
    expect(page.locator(".broken-key")).to_be_visible()
    expect(page.locator(".text .t.broken")).to_have_count(count - 1)
    expect(page.locator(".worst-list")).to_have_text("Nothing here is finite, so nothing can be compared.")
    expect(page.locator(".panel .side-title")).to_have_count(1)
