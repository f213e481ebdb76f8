"""What a page's address holds: a link is read and told in every session state, and numbers are what people type."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.core import parameters
from tests.ui import pages
from tests.ui.pages import FakeJobs, query

PAGES = ("memory", "outputs", "questions", "quantiser", "formats")


@pytest.fixture(autouse=True)
def seam(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    pages.with_jobs(FakeJobs(), monkeypatch)
    pages.with_store(tmp_path, monkeypatch)
    with pages.server(monkeypatch):
        yield


@pytest.mark.parametrize("page", PAGES)
def test_a_second_link_in_a_session_is_told_as_the_first(page: str) -> None:
    at = pages.opened(f"pages/{page}.py", {"colour": "red"})
    assert "colour" in at.warning[0].value
    at.query_params.clear()
    at.query_params["model"] = "org/name"
    at.query_params["smell"] = "sweet"
    at.run()
    assert not at.exception
    assert "smell" in at.warning[0].value and "colour" not in at.warning[0].value
    assert page == "quantiser" or query(at)["model"] == ["org/name"], "the course's matrix is of no model"
    at.query_params.clear()  # as a click on another page and back does
    at.run()
    assert "smell" in at.warning[0].value and query(at), "the address is written again"


@pytest.mark.parametrize(
    ("text", "found"), [("7", 7), ("-3", -3), ("8", None), ("", None), ("٣", None), ("1.5", None), ("1" * 5000, None)]
)
def test_whole_numbers_of_a_link(text: str, found: int | None) -> None:
    assert parameters.whole_number(text, -3, 7) == found


@pytest.mark.parametrize(
    ("text", "found"), [("0.5", 0.5), ("1e1", 10), ("10.1", None), ("-0.1", None), ("nan", None), ("x", None)]
)
def test_numbers_of_a_link(text: str, found: float | None) -> None:
    assert parameters.number(text, 0, 10) == found
