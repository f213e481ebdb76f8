"""What a person sees of the page Outputs."""

import re

from playwright.sync_api import expect

from tests.browser.visit import Arrive


def test_a_prompt_of_ones_own_is_written_while_one_watches(arrive: Arrive) -> None:
    visit = arrive().open("/outputs?p=bf16&p=int2&tokens=8").drawn()
    visit.page.get_by_text("Your own", exact=True).click()
    box = visit.page.get_by_label("Your prompt")
    box.fill("def read_lines(path):\nRead the file and")
    box.press("Control+Enter")
    visit.page.wait_for_url(re.compile("prompt="))  # the prompt has been taken
    visit.page.get_by_role("button", name="Write").click()
    visit.sees("Where they part")
    assert visit.drawn().query()["prompt"] == ["def read_lines(path):\nRead the file and"]
    expect(visit.page.locator("mark")).to_have_count(2)  # the first token that differs, on both sides
    for view, arrives in (
        ("Embeddings", "Nothing embedded yet"),
        ("Classes", "Nothing classified yet"),
        ("Text", "Where they part"),
    ):
        visit.page.get_by_role("radio", name=view, exact=True).click()
        visit.sees(arrives)
        visit.drawn().fits()


def test_on_a_phone_what_came_out_stands_first_and_the_choices_behind_a_button(arrive: Arrive) -> None:
    visit = arrive(width=390).open("/outputs").drawn()
    page, model = visit.page, visit.page.get_by_role("combobox", name="Model")
    heading = page.get_by_role("heading", name="pydoc-llama: FP32")
    expect(heading).to_be_in_viewport()
    expect(model).to_be_hidden()
    page.get_by_role("button", name="Change").click()
    expect(model).to_be_visible()
    page.get_by_role("button", name="Hide the choices").click()
    expect(model).to_be_hidden()
    visit.fits()
