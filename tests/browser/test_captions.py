"""What a person sees of the captions on the page Outputs."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.browser.visit import Arrive
from tests.patience import until


def test_own_pictures_are_captioned_end_to_end(arrive: Arrive, tmp_path: Path) -> None:
    """On a phone: the captions that ship are there at once; own pictures go through a real worker."""
    visit = arrive(width=390).open("/outputs?view=captions").drawn()
    visit.heading("FP32 captions 486 of 500 held-out pictures exactly")
    pictures = visit.page.locator(".qfund-gallery img")
    expect(pictures).to_have_count(12)
    until(lambda: pictures.evaluate_all("all => all.every(e => e.complete && e.naturalWidth > 0)"))
    visit.fits()
    Image.new("RGB", (900, 600), (220, 40, 40)).save(tmp_path / "a <b>photo.jpg")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    visit.page.get_by_role("button", name="Change").click()
    visit.page.get_by_text("Your own", exact=True).click()
    files = [tmp_path / "a <b>photo.jpg", tmp_path / "bad.png"]
    visit.page.locator("input[type=file]").set_input_files(files)
    visit.sees("bad.png is not a picture that can be read.")
    visit.page.locator(".st-key-caption button").click()
    visit.heading("1 picture, captioned in FP32")
    expect(pictures).to_have_count(1)  # those of before stay until all that is new is there
    expect(pictures).to_have_attribute("alt", "a <b>photo.jpg")
    visit.drawn()
