"""A report as one page to take along."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from huggingface_hub import ModelCard, metadata_load
from PIL import Image

from qfund.cli import main
from qfund.drawing.phrases import label
from qfund.features.compare.document.card import card
from qfund.features.compare.document.page import page
from qfund.features.compare.document.pictures import pictures_of
from qfund.features.compare.document.png import png
from qfund.features.compare.document.share import share
from qfund.features.compare.document.svg import Drawing
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
    assert "There is no folder" in capsys.readouterr().err
    assert _run("show", str(tmp_path / "report.json"), "--html", str(tmp_path)) != 0
    assert "cannot be written" in capsys.readouterr().err


def test_show_writes_pictures_and_a_card(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(to_json(make_report(Spec("dummy"))))
    card_file = tmp_path / "card.md"
    assert _run("show", str(tmp_path / "report.json"), "--card", str(card_file), "--pictures", str(tmp_path)) == 0
    assert (metadata_load(card_file) or {})["tags"] == ["qfund"]
    for name in ("memory", "dtypes", "differences", "damage"):
        assert Image.open(tmp_path / f"{name}.png").size[0] == 2 * 560
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("option", ["--html", "--card"])
def test_compare_says_before_it_measures_that_there_is_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert _run("compare", "dummy", "--no-store", option, str(tmp_path / "no" / "file")) != 0
    captured = capsys.readouterr()
    assert "There is no folder" in captured.err and not captured.out


def test_the_page_names_the_link_that_it_was_given() -> None:
    link = "https://qfund.example/?model=dummy&p=int8"
    assert "https://qfund.example/?model=dummy&amp;p=int8" in page(make_report(), Margin(), link).decode()


def test_the_card_holds_what_was_measured(tmp_path: Path) -> None:
    report, link = full_report(), "https://qfund.example/?v=1"
    path = tmp_path / "README.md"
    path.write_bytes(card(report, Margin(), link))
    found = {
        result.metric_name: result for result in ModelCard.load(path, ignore_metadata_errors=False).data.eval_results
    }
    result = report.results[0]
    assert found[f"Top-1 agreement, {label(result.precision)}"].metric_value == result.fidelity["top1_agreement"].value
    assert found[f"Perplexity, {label('fp32')}"].source_url == link
    assert {row.task_type for row in found.values()} == {"text-generation"}
    assert f"(<{link}>)" in path.read_text("utf-8")


def test_a_name_that_is_html_or_markdown_stays_text_in_the_card_and_in_a_notebook() -> None:
    hostile = renamed(make_report(), HOSTILE)
    prose, code, _ = card(hostile, Margin()).decode().split("---", 2)[2].split("```")
    assert "<script>" not in prose.replace("\\<", "") and "<script>" in code
    assert not {"script", "img"} & set(Elements(hostile._repr_html_()).tags)
    assert hostile._repr_html_().count("<svg") == 4


def test_a_drawing_is_the_same_as_pixels() -> None:
    drawing = Drawing("test", 40, 20)
    drawing.add("rect", x=10, y=0, width=20, height=20, fill="#0072B2")
    drawing.add("rect", x=0, y=0, width=5, height=20, fill="#000000", fill_opacity=0.5)
    drawing.line(35, 0, 35, 20, stroke="#ff0000", stroke_width=4, stroke_dasharray="5 5")
    pixels = Image.open(io.BytesIO(png(drawing)))
    assert pixels.size == (80, 40)
    assert pixels.getpixel((40, 20)) == (0x00, 0x72, 0xB2)
    assert pixels.getpixel((15, 20)) == (255, 255, 255)
    assert pixels.getpixel((4, 20)) in ((127, 127, 127), (128, 128, 128))
    assert pixels.getpixel((70, 4)) == (255, 0, 0) and pixels.getpixel((70, 15)) == (255, 255, 255)


@pytest.mark.parametrize("title", ["short", "a title of many words " * 20, HOSTILE, "日本語 " * 50])
def test_the_picture_for_a_chat_has_its_size_whatever_it_says(title: str) -> None:
    found = Image.open(io.BytesIO(share(title, title * 2, pictures_of(make_report(), Margin())[0])))
    assert found.size == (1200, 630) and len(found.getcolors(1 << 20) or []) > 10
