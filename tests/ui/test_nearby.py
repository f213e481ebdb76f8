"""A folder of checkpoints lists them, and what was named lately is offered again, but to no stranger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.ui import nearby
from tests.ui import pages
from tests.ui.pages import FakeJobs


@pytest.fixture(autouse=True)
def seam(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    pages.with_jobs(FakeJobs(), monkeypatch)
    pages.with_store(tmp_path / "home", monkeypatch)
    with pages.server(monkeypatch):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b", "a", "notes"):
        (tmp_path / "models" / name).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "models" / name / "config.json").write_text("{}")
    return tmp_path / "models"


def test_a_folder_lists_the_checkpoints_in_it_and_a_checkpoint_those_beside_it(folder: Path) -> None:
    both = [str(folder / "a"), str(folder / "b")]
    assert nearby.within(str(folder)) == nearby.within(str(folder / "a")) == both
    for name in ("", "owner/name", "a\0b", "~nobody-here/x", str(folder / "notes"), "/nowhere"):
        assert nearby.within(name) == []


def test_nothing_is_listed_where_folders_are_not_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_ALLOW", "hub")
    assert nearby.within(str(folder)) == []


def test_a_page_offers_them(folder: Path) -> None:
    at = pages.opened("pages/memory.py", {"model": str(folder)})
    assert str(folder / "a") in at.selectbox(key="memory_model").options
    assert "2 checkpoints in this folder" in pages.texts(at)
    assert at.selectbox(key="memory_model").label == "Model, a folder or a Hub id"


def test_what_was_named_lately_is_offered_to_no_stranger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("owner/name", str(folder / "a"), "dummy", "nonsense", "owner/name"):
        nearby.remember(model)
    assert nearby.lately() == ["owner/name", str(folder / "a")]
    for number in range(20):
        nearby.remember(f"owner/{number}")
    assert len(nearby.lately()) == nearby.KEPT
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    assert nearby.lately() == []
