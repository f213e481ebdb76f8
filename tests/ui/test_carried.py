"""What somebody has chosen on one page is there on the next, and in its address."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qfund.checkpoints.catalog import CATALOG
from tests.ui import pages
from tests.ui.pages import FakeJobs, query


@pytest.fixture(autouse=True)
def seam(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    pages.with_jobs(FakeJobs(), monkeypatch)
    pages.with_store(tmp_path, monkeypatch)
    with pages.server(monkeypatch):
        yield


def _go(at: AppTest, page: str) -> dict[str, list[str]]:
    """As a click in the navigation: the address of the next page has no parameters yet."""
    at.query_params.clear()
    at.switch_page(f"pages/{page}.py").run()
    assert not at.exception
    return query(at)


def test_a_model_and_its_precisions_go_along_from_page_to_page() -> None:
    at = pages.opened("pages/compare.py", {"model": "dummy", "ref": "bf16", "p": ["int8", "int4"], "tokens": "31"})
    memory = _go(at, "memory")
    assert memory["model"] == ["dummy"] and memory["p"] == ["bf16", "int8", "int4"]
    outputs = _go(at, "outputs")
    assert (outputs["model"], outputs["ref"], outputs["p"]) == (["dummy"], ["bf16"], ["int8", "int4"])
    assert _go(at, "questions")["model"] == ["dummy"]
    back = _go(at, "compare")
    assert (back["model"], back["p"], back["tokens"]) == (["dummy"], ["int8", "int4"], ["31"])


def test_what_is_chosen_last_is_what_goes_along() -> None:
    at = pages.opened("pages/compare.py", {"model": "dummy", "p": ["int8", "int4"]})
    _go(at, "memory")
    at.selectbox(key="memory_model").set_value("pydoc-llama").run()
    compare = _go(at, "compare")
    assert compare["model"] == ["pydoc-llama"] and compare["p"] == ["int8", "int4"]


def test_a_text_of_ones_own_becomes_the_prompt() -> None:
    at = pages.opened("pages/compare.py", {"model": "pydoc-llama", "p": ["int8"], "text": "def open(path):"})
    assert _go(at, "outputs")["prompt"] == ["def open(path):"]


def test_what_nobody_chose_stays_each_pages_own() -> None:
    at = pages.opened("pages/compare.py")
    assert len(_go(at, "memory")["p"]) == 8 and len(_go(at, "outputs")["p"]) == 6


def test_a_link_means_what_it_says_whatever_was_chosen_before() -> None:
    at = pages.opened("pages/compare.py", {"model": "dummy", "p": ["int4"]})
    at.query_params.clear()
    at.query_params["model"] = "pydoc-llama"
    at.query_params["p"] = ["fp32", "nf4"]
    at.switch_page("pages/memory.py").run()
    assert query(at)["model"] == ["pydoc-llama"] and query(at)["p"] == ["fp32", "nf4"]


@pytest.mark.parametrize("page", ["compare", "memory", "outputs"])
def test_models_on_offer_say_what_they_are(page: str) -> None:
    at = pages.opened(f"pages/{page}.py", {"model": "dummy"})
    (models,) = [box for box in at.selectbox if box.label.startswith("Model")]
    assert models.options[0] == CATALOG["pydoc-llama"].title != "pydoc-llama"
