"""Whatever lies in a folder or stands in a link: a sentence, never a traceback. ``benchmarks/fuzz.py`` does more."""

from random import Random

import pandas as pd
import pytest

from benchmarks import forge, fuzz
from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.drawing.csv import csv
from tests.tiny import checkpoints
from tests.ui.pages import FakeJobs, Open

SEED = 12


def test_corrupted_checkpoints_end_in_a_sentence() -> None:
    for what, folder in fuzz.corrupted(checkpoints.folder("llama"), 40, SEED):
        for command, *options in fuzz.CHEAP:
            assert fuzz.run([command, str(folder), *options]) is None, (what, command)


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_a_name_that_is_no_model_is_refused(name: str) -> None:
    try:
        found = catalog.locate(name)
    except QfundError as error:
        assert len(error.message) < 400
    else:
        assert found.kind == "folder" or found.folder is None


@pytest.mark.parametrize("page", ["compare", "memory", "outputs", "formats", "layers"])
def test_hostile_links_open_a_page(page: str, opened: Open) -> None:
    random = Random(SEED)
    for _ in range(4):
        opened(page=f"pages/{page}.py", asked=fuzz.link(random))


@pytest.mark.parametrize("page", forge.PAGES)
def test_values_that_no_widget_could_hold_end_in_no_box(page: str, opened: Open, jobs: FakeJobs) -> None:
    random = Random(f"{SEED} {page}")
    at = opened(page=f"pages/{page}.py")
    for _ in range(4):
        sent = forge.press(at, random)
        assert not at.exception, sent


def test_no_cell_of_a_csv_is_a_formula() -> None:
    frame = pd.DataFrame({"text": ["=1+1", "@x", "-a", "plain"], "number": [-1.5, 2, 3, 4]})
    assert csv(frame).decode() == "text,number\n'=1+1,-1.5\n'@x,2.0\n'-a,3.0\nplain,4.0\n"
