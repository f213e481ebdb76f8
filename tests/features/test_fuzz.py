"""Whatever lies in a folder or stands in a link: a sentence, never a traceback. ``benchmarks/fuzz.py`` does more."""

from collections.abc import Callable, Iterator
from pathlib import Path
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
Commands = Callable[[Path, int, int], Iterator[tuple[str, list[str]]]]


def test_corrupted_checkpoints_end_in_a_sentence() -> None:
    for what, folder in fuzz.corrupted(checkpoints.folder("llama"), 40, SEED):
        for command, *options in fuzz.CHEAP:
            assert fuzz.run([command, str(folder), *options]) is None, (what, command)


def test_a_dear_command_on_a_corrupted_checkpoint_ends_in_a_sentence() -> None:
    """Each of them once."""
    for what, arguments in fuzz.of_checkpoints(checkpoints.folder("llama"), len(fuzz.DEAR), SEED + 1):
        if (arguments[0],) not in {command[:1] for command in fuzz.CHEAP}:
            assert fuzz.run(arguments) is None, (what, arguments)


@pytest.mark.parametrize(
    ("commands", "model", "count"),
    [(fuzz.of_files, "llama-untied", 2), (fuzz.of_sentences, "bert-masked", 5), (fuzz.of_lists, "llama", 16)],
)
def test_broken_files_and_lists_end_in_a_sentence(commands: Commands, model: str, count: int) -> None:
    for what, arguments in commands(checkpoints.folder(model), count, SEED):
        assert fuzz.run(arguments) is None, (what, arguments)


def test_every_page_reads_any_link_and_writes_it_again() -> None:
    random = Random(SEED)
    for _ in range(100):
        assert not list(fuzz.misread(fuzz.link(random)))


@pytest.mark.parametrize(("page", "key"), [("layers", "layers_tokens"), ("speed", "speed_depths")])
def test_an_amount_that_no_box_offers(page: str, key: str, opened: Open) -> None:
    at = opened(page=f"pages/{page}.py")
    sent = at._tree.get_widget_states()
    for widget in sent.widgets:
        if widget.id.endswith(key):
            widget.string_value = "<script>"
            if key == "speed_depths":
                widget.string_array_value.data[:] = ["nan"]
    at._run(sent)
    assert not at.exception


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


def test_a_report_of_brackets_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for document in ("[" * 5000, '{"schema": 4, "x": ' + "[" * 5000):
        path.write_text(document)
        assert fuzz.run(["show", str(path)]) is None
