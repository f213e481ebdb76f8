"""A report as one page to take along."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qfund.cli import main
from qfund.features.compare.document.page import page
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.report import Report, to_json
from qfund.features.compare.request.spec import Spec
from tests.features.compare.reports import full_report, make_report, renamed

HOSTILE = "<script>alert(1)</script>\"'&\x01"


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code


class Elements(HTMLParser):
    """All tags and attributes of a page."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.mark.parametrize(
    "report",
    [make_report(), full_report(), replace(make_report(), results=()), renamed(make_report(), HOSTILE)],
    ids=["small", "full", "nothing", "hostile"],
)
def test_the_page_loads_nothing_and_runs_nothing(report: Report) -> None:
    document = page(report, Margin()).decode()
    found = Elements(document)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "image", "use"} & set(found.tags)
    assert not {"src", "href", "srcset", "action", "data", "xlink:href"} & {name for name, _ in found.attributes}
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert "url(" not in document and "@import" not in document
    for picture in re.findall("<svg.*?</svg>", document, re.S):
        ElementTree.fromstring(picture)


def test_the_answer_stands_before_the_pictures_and_these_before_the_tables() -> None:
    document = page(full_report(), Margin()).decode()
    places = [document.index(part) for part in ('class="answer"', "<svg", "<table", "qfund compare ")]
    assert places == sorted(places)
    assert document.count("<svg") == 4


def test_show_writes_the_page_and_says_where_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_bytes(to_json(make_report(Spec("dummy"))))
    assert _run("show", str(tmp_path / "report.json"), "--html", str(tmp_path / "out.html")) == 0
    assert (tmp_path / "out.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert _run("show", str(tmp_path / "report.json"), "--html", str(tmp_path / "no" / "out.html")) != 0
    assert "cannot be written" in capsys.readouterr().err
