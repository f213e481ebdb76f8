"""The view *Captions* without a browser: what is chosen reaches the engine, and text of a model stays text."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from qfund.checkpoints import catalog
from qfund.commandline.parser import parse
from qfund.core.errors import ModelNotFound, QfundError, QueueFull, WorkerDied
from qfund.core.parameters import Query
from qfund.core.request import Request
from qfund.engine import shipped
from qfund.engine.jobs import Job
from qfund.features.captions import figures as captions_figures
from qfund.features.captions import link
from qfund.features.captions import tables as captions_tables
from qfund.features.captions.link import Asked
from qfund.features.captions.request import DEFAULT_SAMPLES, CaptionRequest, GivenPicture, checked
from qfund.features.outputs.view.captions import gallery as gallery_view
from qfund.features.outputs.view.captions import page
from qfund.inputs import shapes
from tests.features.captions.results import make_captions
from tests.ui import pages

EXAMPLE = CaptionRequest("shapes-blip")


class FakeJobs(pages.FakeJobs):
    """Remembers what reached it."""

    def __init__(self) -> None:
        super().__init__()
        self.state = "running"

    def answer(self, request: CaptionRequest) -> Job:
        changes: dict[str, Any] = {"state": self.state, "phase": "captioning in BF16", "share": 0.25}
        if self.state == "done":
            changes["result"] = make_captions(checked(request))
        if self.state == "failed":
            changes["error"] = WorkerDied("The worker is gone.", "Try again.")
        return self.set(request, **changes)


@pytest.fixture(autouse=True)
def ships(page_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped result is a small one, and no checkpoint is read."""
    monkeypatch.setattr(catalog, "identity", lambda request: "an identity")
    ships = make_captions(replace(checked(EXAMPLE), samples=30))
    monkeypatch.setattr(
        shipped,
        "find",
        lambda asked, key, **_: (
            ships if isinstance(asked, CaptionRequest) and checked(asked) == checked(EXAMPLE) else None
        ),
    )


Open = Callable[..., AppTest]


@pytest.fixture
def opened(jobs: FakeJobs) -> Open:
    def opened(asked: Any = None, to_query: Callable[[Any], Query] = dict) -> AppTest:
        query = to_query(asked) if asked is not None else {}
        return pages.opened("pages/outputs.py", {"view": ["captions"], **query})

    return opened


texts = partial(pages.texts, more=("info",))


def gallery(at: AppTest) -> str:
    found: str = next(one.proto.body for one in at.get("html") if "qfund-gallery" in one.proto.body)
    return found


def png(color: str = "red", size: tuple[int, int] = (30, 20)) -> bytes:
    target = BytesIO()
    Image.new("RGB", size, color).save(target, "PNG")
    return target.getvalue()


def test_a_first_visit_shows_captions_and_starts_nothing(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    assert "FP32 captions 30 of 30 held-out pictures exactly" in texts(at)
    assert "INT2 g32 changes 30 of 30 captions" in texts(at)
    assert gallery(at).count("<img ") == gallery_view.STEP
    at.button(key=next(b.key for b in at.button if b.key and b.key.startswith("gallery_more"))).click().run()
    assert gallery(at).count("<img ") == 30
    assert not jobs.submitted


def test_what_is_chosen_reaches_the_engine_by_a_click_only(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.selectbox(key="captions_reference").set_value("bf16")
    at.multiselect(key="captions_precisions").set_value(["nf4", "int8", "fp16"])
    at.selectbox(key="captions_samples").set_value(24)
    at.text_input(key="captions_tokens").set_value("12").run()
    assert not jobs.submitted and "These choices are not the captions shown below" in texts(at)
    at.button(key="caption").click().run()
    wanted = CaptionRequest("shapes-blip", ("fp16", "int8", "nf4"), "bf16", 24, (), 12)
    assert jobs.submitted == [wanted]
    assert at.query_params["samples"] in ("24", ["24"]) and at.query_params["ref"] in ("bf16", ["bf16"])
    assert "25" in str(at.get("progress")[0].proto.text) and not at.exception


def test_a_link_opens_what_it_names_and_starts_nothing(opened: Open, jobs: FakeJobs) -> None:
    asked = Asked("dummy", None, "bf16", ("fp16", "int8"), 24, 9)
    at = opened(link.to_query(asked))
    assert "No captions yet" in texts(at) and not jobs.submitted
    jobs.state = "done"
    at.button(key="caption").click().run()
    assert jobs.submitted == [asked.request] and "24 held-out pictures exactly" in texts(at)


def test_links_go_there_and_back_and_say_what_they_ignore() -> None:
    asked = Asked("owner/name", "v2", "bf16", ("fp16", "int4"), 1000, 77)
    assert link.from_query(link.to_query(asked)) == (asked, [])
    found, problems = link.from_query(
        {"p": ["bf61", "stored"], "ref": ["x"], "samples": ["-3"], "tokens": ["9999"], "color": ["red"], "model": [" "]}
    )
    assert found == Asked() and len(problems) == 5
    assert any("bf61" in one and "stored" in one for one in problems)
    assert checked(Asked().request) == checked(EXAMPLE) and Asked().samples == DEFAULT_SAMPLES


def test_what_a_link_gets_wrong_is_told(opened: Open) -> None:
    assert "no number from 1 to 2,000" in texts(opened({"samples": ["9999"]}))


def upload(at: AppTest, *files: tuple[str, bytes]) -> AppTest:
    at.segmented_control(key="captions_source").set_value("Your own").run()
    at.file_uploader[0].set_value([(name, data, "image/png") for name, data in files]).run()
    assert not at.exception
    return at


def test_own_pictures_reach_the_engine_small_and_a_bad_one_loses_no_good_one(opened: Open, jobs: FakeJobs) -> None:
    jobs.state = "done"
    at = upload(opened(), ("a.png", png("red", (900, 600))), ("b.png", b"no picture"), ("c.png", png("blue")))
    said = texts(at)
    assert "b.png is not a picture that can be read." in said and "a.png: scaled from 900 × 600" in said
    assert "FP32 captions 30 of 30" in said, "what was there stays until the click"
    at.button(key="caption").click().run()
    (request,) = jobs.submitted
    assert isinstance(request, CaptionRequest) and request.samples == 0
    assert [one.name for one in request.pictures] == ["a.png", "c.png"]
    assert Image.open(BytesIO(request.pictures[0].png)).size == (512, 341)
    assert gallery(at).count("data:image/png;base64,") == 2 and "exactly" not in texts(at).lower().split("numbers")[0]
    assert "samples" in at.query_params and "pictures" not in at.query_params


def test_without_a_picture_nothing_is_asked_for(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.segmented_control(key="captions_source").set_value("Your own").run()
    at.button(key="caption").click().run()
    assert "No picture is chosen." in texts(at) and not jobs.submitted


@pytest.mark.parametrize("error", [QueueFull("The queue is full.", "Wait."), ModelNotFound("There is none.", "Look.")])
def test_what_refuses_is_told_and_nothing_is_lost(opened: Open, jobs: FakeJobs, error: QfundError) -> None:
    at = opened()
    jobs.refuse = error
    at.selectbox(key="captions_samples").set_value(24).run()
    at.button(key="caption").click().run()
    assert error.message in texts(at) and "FP32 captions 30 of 30" in texts(at)
    assert at.selectbox(key="captions_samples").value == 24


def test_a_choice_without_precisions_is_told(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.multiselect(key="captions_precisions").set_value([]).run()
    at.button(key="caption").click().run()
    assert "No precision is named." in texts(at) and not jobs.submitted


def test_a_job_that_failed_says_why(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    jobs.state = "failed"
    at.selectbox(key="captions_samples").set_value(100).run()
    at.button(key="caption").click().run()
    assert "The worker is gone." in texts(at)


def test_a_link_to_a_model_that_is_not_there_leads_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(request: Request) -> str:
        if request.model != "shapes-blip":
            raise ModelNotFound("There is no such model.", "Look again.")
        return "an identity"

    monkeypatch.setattr(catalog, "identity", identity)
    at = opened({"model": ["/nowhere"]})
    assert "There is no such model." in texts(at)
    at.button(key="captions_example").click().run()
    assert "FP32 captions 30 of 30" in texts(at) and not at.exception


def test_the_command_line_of_the_page_is_one_that_the_parser_takes() -> None:
    for asked in (Asked(), Asked("a/b", "v1", "bf16", ("int8",), 24, 9)):
        options = parse(shlex.split(page.shell(asked))[1:])
        assert (options.model, options.samples, options.revision) == (asked.model, asked.samples, asked.revision)
        assert tuple(options.precision) == asked.precisions and options.reference == asked.reference
    own = Asked(pictures=(GivenPicture("my dog.png", b""),))
    assert [str(path) for path in parse(shlex.split(page.shell(own))[1:]).image] == ["my dog.png"]


# --- the gallery


class Tags(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = '<img src=x onerror="alert(1)"> ![a](http://evil/) "quoted" & \'so\''


def test_text_of_models_and_names_of_files_stay_text() -> None:
    found = make_captions(CaptionRequest("m", ("int4",), samples=0, pictures=(GivenPicture(EVIL, png()),)))
    picture = found.pictures[0]
    picture.candidates["int4"] = replace(picture.candidates["int4"], text=EVIL)
    picture = replace(picture, reference=replace(picture.reference, pieces=(EVIL,), probabilities=(0.5,)))
    tags = Tags(gallery_view.cards(found, [picture]))
    assert set(tags.names) <= {"div", "span", "img"} and tags.names.count("img") == 1
    assert {name for name, _ in tags.attributes} <= {"style", "class", "alt", "src", "title"}
    assert all(value and value.startswith("data:") for name, value in tags.attributes if name == "src")
    assert 'onerror="alert(1)">' in tags.text, "a visitor can read what the model said"


def test_words_that_differ_are_marked() -> None:
    compared = list(gallery_view.compared("a red cross above a square", "a red circle above a blue square"))
    assert [word for word, marked, _ in compared if marked] == ["cross", "∅"]
    assert [title for _, marked, title in compared if marked] == ["instead of: circle", "missing: blue"]
    assert " ".join(word for word, *_ in compared if word != "∅") == "a red cross above a square"
    assert not any(marked for _, marked, _ in gallery_view.compared("a b", "a b"))
    assert [marked for _, marked, _ in gallery_view.compared("", "a b")] == [True]
    assert [marked for _, marked, _ in gallery_view.compared("a b c", "a b")] == [False, False, True]


def test_precisions_with_one_caption_share_a_line() -> None:
    found = make_captions(CaptionRequest("m", ("bf16", "int8", "int4"), samples=2))
    document = gallery_view.cards(found, [found.pictures[0]])
    assert document.count("✓ ") == 1 and document.count("✗ ") == 1
    reference = found.pictures[0].reference
    place = len(reference.pieces) - 2  # the last word, which the last candidate leaves out
    chance = f"{reference.probabilities[place]:.2f}"
    told = f"number {place + 1}: “[SEP]” ({chance}) instead of “{reference.pieces[place]}” ({chance})"
    assert told in document and document.count("first other token") == 1
    assert document.index("FP32") < document.index("BF16") < document.index("✗ ") < document.index("INT4 g32")


def test_a_picture_that_is_drawn_otherwise_now_is_not_shown_for_the_one_that_was_measured() -> None:
    found = make_captions(CaptionRequest("m", ("int4",), samples=2))
    drawn = gallery_view.drawn(found.pictures[0])
    assert drawn is not None
    shown = Image.open(BytesIO(drawn))
    assert shown.tobytes() == shapes.held_out([found.pictures[0].number])[0].image.tobytes()
    other = replace(found.pictures[0], sha256="0" * 64)
    assert gallery_view.drawn(other) is None
    assert "Drawn otherwise" in gallery_view.cards(found, [other])


# --- frames and figures


def test_frames_hold_the_numbers_of_the_result() -> None:
    found = make_captions(CaptionRequest("m", ("bf16", "int4"), samples=4))
    accuracy = captions_tables.accuracy(found)
    assert list(accuracy["exact"]) == [1, 1, 0] and list(accuracy["label"]) == ["FP32", "BF16", "INT4 g32"]
    assert list(captions_tables.divergence(found)["kl"]) == [1e-4, 0.5]
    summary = captions_tables.summary(found)
    assert list(summary["Right → wrong"])[1:] == [0, 4] and list(summary["Changed"])[1:] == [0, 100]
    own = make_captions(CaptionRequest("m", ("bf16", "int4"), samples=0, pictures=(GivenPicture("a", png()),)))
    assert captions_tables.accuracy(own).empty
    assert "Exactly right" not in captions_tables.summary(own) and len(captions_tables.summary(own)) == 3


def test_figures_are_deterministic_and_hold_every_precision() -> None:
    found = make_captions(CaptionRequest("m", ("bf16", "int4"), samples=4))
    for figure, frame in (
        (captions_figures.accuracy, captions_tables.accuracy(found)),
        (captions_figures.divergence, captions_tables.divergence(found)),
    ):
        drawn = figure(frame)
        assert drawn.to_json() == figure(frame).to_json()
        assert [trace.y[0] for trace in drawn.data] == list(frame["label"])
    exact = replace(
        found,
        candidates=tuple(
            replace(row, kl_mean=row.kl_mean and replace(row.kl_mean, value=0.0, se=0.0)) for row in found.candidates
        ),
    )
    nothing = json.loads(captions_figures.divergence(captions_tables.divergence(exact)).to_json())
    assert nothing["layout"]["xaxis"]["title"]["text"] == "KL divergence: 0 everywhere"
