"""What a person sees of the page Compare."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from qfund.engine import key_of
from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.spec import Spec
from tests.browser.visit import Arrive, Server, Visit, chips, link
from tests.features.compare.reports import full_report, make_report
from tests.patience import until


def test_the_first_page_shows_a_comparison(arrive: Arrive) -> None:
    visit = arrive().open().drawn()
    visit.heading("pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only")
    visit.sees("50.4\u00a0% of the memory (960\u00a0B instead of 1.86\u00a0KiB). Whole model in bf16")
    visit.sees("Not decided yet: BF16")
    assert visit.query() == to_query(examples.EXAMPLE)


def test_sets_of_candidates_are_taken_at_once_and_kept_by_a_link(arrive: Arrive) -> None:
    visit = arrive().open("/?model=dummy&tokens=31").drawn()
    visit.page.get_by_role("button", name="Presets").click()
    visit.page.get_by_role("menuitem", name="From 8 bits down to 2").click()
    expect(chips(visit)).to_have_text([f"INT{bits} g32" for bits in (8, 6, 5, 4, 3, 2)])
    visit.page.get_by_role("button", name="Remove INT8 g32").click()
    expect(chips(visit)).to_have_count(5)
    visit.sees("These choices are not the comparison shown below")


def test_compare_a_model_end_to_end(arrive: Arrive, server: Server) -> None:
    """Choose, compare, reload while it runs, see the report, copy its link, open that elsewhere, find it in Saved."""
    visit = arrive().open().drawn()
    page = visit.page
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="dummy").click()
    visit.sees("These choices are not the comparison shown below")
    assert visit.query()["model"] == ["pydoc-llama"], "a draft is not what is shown"
    page.get_by_role("button", name="Remove FP16").click()
    expect(chips(visit)).to_have_text(["BF16", "INT8 weight-only"])
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile("model=dummy"))
    page.reload()  # the job outlives the page
    visit.heading("dummy: FP32 against BF16 and INT8 weight-only")
    visit.drawn()
    # Of another model is read until it is decided.
    asked = Spec("dummy", precisions=("bf16", "int8"), until=Margin())
    assert visit.query() == to_query(asked)
    visit.sees("Half the memory (60 B instead of 120 B)")
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
    elsewhere.heading("dummy: FP32 against BF16 and INT8 weight-only")
    assert elsewhere.query() == visit.query()

    elsewhere.page.get_by_test_id("stTopNavLink").filter(has_text="Saved").click()
    row = elsewhere.page.locator(f".st-key-saved_{key_of(asked)}")
    expect(row).to_contain_text("dummy")
    row.get_by_role("button", name="Open").click()
    elsewhere.heading("dummy: FP32 against BF16 and INT8 weight-only")
    assert elsewhere.query() == visit.query()


def downloaded(visit: Visit) -> dict[str, list[dict[str, dict[str, dict[str, float]]]]]:
    visit.page.get_by_role("button", name="Take it with you").click()
    visit.sees(visit.page.get_by_role("button", name="Report (JSON)"))
    visit.drawn()  # a file that is asked for while the script still runs is forgotten at its end
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Report (JSON)").click()
    visit.page.keyboard.press("Escape")
    found: dict[str, list[dict[str, dict[str, dict[str, float]]]]] = json.loads(
        Path(download.value.path()).read_text("utf-8")
    )
    return found


def test_back_and_forward_move_between_comparisons(arrive: Arrive) -> None:
    visit = arrive().open().drawn()
    visit.heading("pydoc-llama: FP32")
    visit.open(link(Spec("dummy", "bf16", ("fp32",), max_tokens=3)))
    visit.sees("Not measured yet")
    visit.page.go_back()
    visit.heading("pydoc-llama: FP32")
    visit.page.go_forward()
    visit.sees("Not measured yet")
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


def test_a_margin_moves_the_answer_and_the_address_and_nothing_else(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "int4"), max_tokens=4002)
    server.keep(spec, full_report(spec))
    visit = arrive(width=390).open(link(spec)).drawn()
    page = visit.page
    page.get_by_role("button", name="Change").click()
    expect(page.locator(".qf-pill")).to_contain_text(["within your margin", "inconclusive"])
    field = page.get_by_role("spinbutton", name="Top tokens changed")
    field.fill("40")
    field.press("Enter")
    expect(page.locator(".qf-pill")).to_contain_text(["within your margin", "within your margin"])
    page.wait_for_url(re.compile("changed=40"))
    page.reload()
    expect(page.locator(".qf-pill")).to_contain_text(["within your margin", "within your margin"])
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("spinbutton", name="Top tokens changed")).to_have_value("40")
    visit.fits()


def test_a_phone_shows_the_answer_first_and_the_choices_behind_a_button(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("bf16", "int4"), max_tokens=4003)
    server.keep(spec, full_report(spec))
    visit = arrive(width=390).open(link(spec)).drawn()
    page = visit.page
    answer = page.get_by_test_id("stAlert").filter(has_text="no measurable change of perplexity")
    box = answer.bounding_box()
    assert box is not None and box["y"] + box["height"] < 844
    compare = page.get_by_role("button", name="Compare", exact=True)
    expect(compare).to_be_hidden()
    page.get_by_role("button", name="Change").click()
    expect(compare).to_be_visible()
    expect(page.get_by_role("textbox", name="Batch")).to_be_visible()
    visit.fits()


def test_the_open_menu_of_candidates_covers_no_button_and_none_moves(arrive: Arrive) -> None:
    visit = arrive().open("/?model=dummy&tokens=29").drawn()
    page = visit.page
    compare = page.locator(".st-key-compare button")  # by its role it is hidden while the menu is open
    before = compare.bounding_box()
    page.locator(".st-key-choice_precisions").get_by_role("combobox").click()
    menu = page.get_by_role("listbox")
    expect(menu).to_be_visible()
    box = menu.bounding_box()
    assert before is not None and box is not None and box["y"] >= before["y"] + before["height"]
    for count in range(4, 12):
        name = menu.get_by_role("option").nth(1).inner_text()
        menu.get_by_role("option", name=name, exact=True).click()
        expect(chips(visit)).to_have_count(count)
        expect(menu.get_by_role("option", name=name, exact=True)).to_have_count(0)  # or the next may be another one
    until(lambda: compare.bounding_box() == before)  # eleven candidates take two lines; the last is still being drawn
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    until(lambda: compare.bounding_box() == before)


def test_a_comparison_is_deleted_after_asking(arrive: Arrive, server: Server) -> None:
    spec = Spec("dummy", precisions=("fp16",), max_tokens=12)
    server.keep(spec, make_report(spec))
    visit = arrive().open("/saved").drawn()
    row = visit.page.locator(f".st-key-saved_{key_of(spec)}")
    row.get_by_role("button", name="Delete").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
