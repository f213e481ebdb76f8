"""What a person sees of the page Questions."""

import re
import shutil
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import expect

from qfund.checkpoints import catalog
from tests.browser.visit import Arrive


def test_a_question_is_guessed_measured_and_turned(arrive: Arrive, tmp_path: Path) -> None:
    """Shipped evidence after a guess, on a telephone; and a model that does not ship, run by the real worker."""
    visit = arrive(width=390).open("/questions?model=pydoc-llama&q=footprint").drawn()
    page = visit.page
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(0)
    page.get_by_role("radio", name="exactly 0.5").click()
    visit.sees("0.5000039345")
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(1)
    page.wait_for_url(re.compile("guess=ratio.1"))
    visit.fits()
    page.get_by_role("button", name="7 · Loading").click()
    visit.heading("7. Why load in low precision")
    folder = shutil.copytree(catalog.CATALOG["dummy"].folder, tmp_path / "own")
    visit.open(f"/questions?{urlencode({'model': str(folder), 'q': 'deepcopy'})}").drawn()
    page.get_by_role("button", name="Run the notebook").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    visit.sees("All 11 parameters are the same Python objects")
