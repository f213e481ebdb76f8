"""The page Outputs without a browser: what a link asks for reaches the engine, and whatever happens is told."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from qfund import cli
from qfund.checkpoints import catalog
from qfund.core.errors import QfundError, QueueFull, UnsupportedModel
from qfund.engine import shipped
from qfund.engine.jobs import Job
from qfund.features.outputs import figures as outputs_figures
from qfund.features.outputs import link as outputs_link
from qfund.features.outputs import tables as outputs_tables
from qfund.features.outputs.command import classify, embed, generate
from qfund.features.outputs.link import Asked
from qfund.features.outputs.request.classes import ClassesRequest
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.features.outputs.view import aligned, choices, data
from qfund.inputs.pairs import Pair
from tests.features.outputs.generations import HOSTILE, make_classes, make_embeddings, make_generation
from tests.ui import pages


class FakeJobs(pages.FakeJobs):
    """Answers every request at once with what ``tests.features.outputs.generations`` makes, or as a test wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.fails: QfundError | None = None

    def answer(self, request: Any) -> Job:
        if self.fails:
            return self.set(request, state="failed", error=self.fails)
        if self.slow:
            texts = {"fp32": "so far *so* good", "bf16": HOSTILE}
            return self.set(request, state="running", phase="writing in BF16", share=0.25, texts=texts)
        makers: dict[type, Callable[[Any], object]] = {
            GenerationRequest: make_generation,
            ClassesRequest: make_classes,
            EmbeddingsRequest: make_embeddings,
        }
        return self.set(request, state="done", result=makers[type(request)](request))


@pytest.fixture(autouse=True)
def identity(page_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is read."""
    monkeypatch.setattr(catalog, "identity", lambda request: f"{request.model} on cpu")


Open = Callable[..., AppTest]


@pytest.fixture
def opened(jobs: FakeJobs) -> Open:
    return partial(pages.opened, "pages/outputs.py", to_query=outputs_link.to_query)


def go(at: AppTest) -> AppTest:
    at.button(key="outputs_go").click().run()
    assert not at.exception
    return at


said = partial(pages.texts, more=("info", "text", "metric"))

TEXT = Asked(
    precisions=("bf16", "int4"), prompts=("def f():\nA",), new_tokens=7, temperature=0.5, seed=3, stop=("\n\n",)
)
FILES = replace(TEXT, files=("./tiny-Q4_0.gguf", "owner/name@main:x.gguf"))
CLASSES = Asked("classes", "dummy", precisions=("bf16", "int4"), texts=("one", HOSTILE))
EMBEDDINGS = Asked(
    "embeddings", "dummy", precisions=("bf16", "int4"), query="q", sentences=("a", "b", HOSTILE), pooling="last"
)


SCORED = replace(EMBEDDINGS, pairs=(Pair("a, “b”\u2028", 'c"\n', 4.5), Pair("d", "e", -0.1)), correlation=0.05)


@pytest.mark.parametrize(
    "asked", [Asked(), TEXT, FILES, CLASSES, EMBEDDINGS, SCORED, Asked(also=("head",), look="int4", example=3)]
)
def test_link_and_choices_are_each_other_s_inverse(asked: Asked) -> None:
    assert outputs_link.from_query(outputs_link.to_query(asked)) == (asked, [])


@pytest.mark.parametrize("asked", [Asked(), TEXT, FILES, CLASSES, EMBEDDINGS, SCORED])
def test_nothing_is_started_by_a_link_and_a_click_asks_for_what_it_names(
    asked: Asked, opened: Open, jobs: FakeJobs
) -> None:
    at = opened(asked)
    assert not jobs.submitted and "Nothing" in said(at) and not at.warning
    assert outputs_link.to_query(asked) == pages.query(at)
    go(at)
    assert jobs.submitted == [asked.request]
    assert "Measured on 2 January 2026" in said(at)


def test_texts_are_shown_with_where_they_part(opened: Open) -> None:
    shown = said(go(opened(replace(TEXT, temperature=0.0, seed=0))))
    assert "Same tokens: 2.5" in shown and "Never diverge: 50 %" in shown and "A note" in shown
    assert "2 of 4 texts are the same to their end" in shown
    assert "At token 1 FP32 preferred “ a”" in shown, "the worst example of the first candidate that parts"


def test_classes_are_shown_with_their_flips(opened: Open) -> None:
    shown = said(go(opened(CLASSES)))
    assert "Flips: 50 %" in shown and "Another class for 1 of 2 texts" in shown and "a tie" in shown


def test_embeddings_are_shown_with_their_order(opened: Open) -> None:
    shown = said(go(opened(EMBEDDINGS)))
    assert "Kendall's τ: 0.333" in shown and "the nearest among them" in shown
    assert "was not trained to embed sentences" in shown


def test_a_file_of_pairs_is_part_of_what_is_asked(opened: Open, jobs: FakeJobs) -> None:
    at = opened(EMBEDDINGS)
    at.file_uploader[0].set_value(("pairs.csv", b"a,b,1\nc,d,2\n", "text/csv")).run()
    assert "2 scored pairs" in said(at)
    shown = said(go(at))
    (asked,) = jobs.submitted
    assert asked.pairs == (Pair("a", "b", 1.0), Pair("c", "d", 2.0))
    assert "Spearman's ρ of cosine and score, 2 pairs" in shown
    for content, why in (
        (b"a,b\n", "holds no two texts"),
        (b"\xff", "no UTF-8"),
        (b"a,b,1\n" * 2001, "the same score"),
    ):
        at.file_uploader[0].set_value(("pairs.csv", content, "text/csv")).run()
        assert why in said(at) and not outputs_link.from_query(pages.query(at))[0].pairs


def test_tokens_are_shown_as_they_are_made_and_never_as_markdown(opened: Open, jobs: FakeJobs) -> None:
    jobs.slow = True
    at = go(opened(TEXT))
    assert [text.value for text in at.text] == ["so far *so* good", HOSTILE]
    assert "Writing in BF16" in str(at.get("progress")[0].proto)


@pytest.mark.parametrize("asked", [replace(TEXT, prompts=None), CLASSES, EMBEDDINGS])
def test_what_a_model_wrote_is_never_markup(asked: Asked, opened: Open) -> None:
    at = go(opened(asked))
    for kind in (at.markdown, at.caption, at.header):
        assert not [element for element in kind if HOSTILE in str(element.value)]
    for element in at.get("html"):
        assert "<img" not in element.proto.body


def test_prose_and_table_escape_and_mark() -> None:
    found = make_generation()
    example = found.examples[1]
    body = aligned.prose(HOSTILE, example.candidates["int4"].written, "int4", 2)
    assert "<img" not in body and "&lt;img" in body
    assert body.count("<mark") == 1 and ">w9</mark>" in body
    table = aligned.table(found.examples[2], "fp32", ("bf16", "int4"))
    assert "⟨end⟩" in table and table.count("outline") == 1, "one token is marked, the first that differs"
    same = aligned.prose("p", found.examples[0].reference, "bf16", None)
    assert "<mark" not in same and " w1 w2 w3 w4" in same


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ({"p": ["bf61"]}, "Ignored unknown p='bf61'"),
        ({"view": ["nowhere"]}, "Ignored view='nowhere'"),
        ({"tokens": ["many"]}, "Ignored tokens='many'"),
        ({"tokens": ["99999"]}, "Ignored tokens='99999'"),
        ({"temperature": ["hot"]}, "Ignored temperature='hot'"),
        ({"prompt": ["x" * 5000]}, "Ignored prompt="),
        ({"pooling": ["swimming"]}, "Ignored pooling='swimming'"),
        ({"colour": ["red"]}, "Ignored unknown link parameter: colour"),
    ],
)
def test_a_bad_link_is_told(opened: Open, link: dict[str, list[str]], told: str) -> None:
    assert told in opened(link).warning[0].value.replace("\\", "")


def test_an_empty_prompt_is_told_and_nothing_is_lost(opened: Open, jobs: FakeJobs) -> None:
    at = opened(TEXT)
    at.text_area(key="outputs_prompts").set_value(" \n").run()
    assert "There is no prompt" in said(at) and not at.exception
    go(at)
    assert not jobs.submitted
    at.text_area(key="outputs_prompts").set_value("def f():\nB\n---\nclass A:\nA").run()
    assert not jobs.submitted, "the click before was for another text"
    go(at)
    [request] = jobs.submitted
    assert isinstance(request, GenerationRequest) and request.prompts == ("def f():\nB", "class A:\nA")
    assert (request.max_new_tokens, request.precisions) == (7, ("bf16", "int4"))


def test_failures_are_told(opened: Open, jobs: FakeJobs) -> None:
    jobs.fails = UnsupportedModel("BertModel (encoder) has no head that writes text.", "Look at its embeddings.")
    shown = said(go(opened(TEXT)))
    assert "no head that writes text" in shown and "Look at its embeddings" in shown
    jobs.fails, jobs.refuse = None, QueueFull("The queue is full (8 waiting).", "Try again in a few minutes.")
    assert "The queue is full" in said(go(opened(CLASSES)))


def test_a_first_visit_is_not_empty(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "find", lambda request, key: make_generation(request))
    at = opened()
    assert "43 of" not in said(at) and "All 4 texts are the same" in said(at) and len(at.get("plotly_chart")) >= 3


@pytest.mark.parametrize("asked", [TEXT, FILES, CLASSES, EMBEDDINGS, Asked(model="dummy", also=("head",))])
def test_the_command_line_that_a_page_shows_asks_for_the_same(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def compute(request: Any, **_: object) -> Any:
        seen.append(request)
        return {GenerationRequest: make_generation, ClassesRequest: make_classes, EmbeddingsRequest: make_embeddings}[
            type(request)
        ]()  # type: ignore[operator]

    monkeypatch.setattr("qfund.engine.compute", compute)
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(data.command_line(asked))[1:])
    assert ended.value.code == 0 and capsys.readouterr().out
    assert seen == [asked.request]


def test_words_for_a_terminal() -> None:
    text = generate.text(make_generation())
    assert (
        "int4              2.50" in text
        and "±" not in text
        and "INT4 g32, the worst:" in text
        and "  3. class A:↵A" in text
    )
    few = make_generation()
    assert " w1 w2▶ w9 w4" in generate.text(replace(few, examples=few.examples[1:2]))
    assert "bad 51.0 %" in classify.text(make_classes()) and "◀" in classify.text(make_classes())
    assert "1. a (0.9000)" in embed.text(make_embeddings())


def test_figures_are_deterministic_and_keep_text_as_text() -> None:
    found, classes, vectors = make_generation(), make_classes(), make_embeddings()
    makers: tuple[Callable[[], Any], ...] = (
        lambda: outputs_figures.survival(outputs_tables.survival(found)),
        lambda: outputs_figures.outcomes(outputs_tables.outcomes(found)),
        lambda: outputs_figures.alternatives(outputs_tables.alternatives(found, 1, "int4")),
        lambda: outputs_figures.class_shares(outputs_tables.class_shares(classes, 0), "%"),
        lambda: outputs_figures.rankings(outputs_tables.rankings(vectors)),
        lambda: outputs_figures.similarity(outputs_tables.similarity(vectors, "int4")),
    )
    for make in makers:
        assert make().to_json() == make().to_json()
        assert "<img" not in make().to_json()
    bars = outputs_figures.outcomes(outputs_tables.outcomes(found))
    assert sum(sum(bar.x) for bar in bars.data) == 2 * 4
    labels = outputs_figures.alternatives(outputs_tables.alternatives(found, 1, "int4")).layout.yaxis.ticktext
    assert labels[2] == "“&lt;b>”"


def test_what_the_choices_make_of_lines() -> None:
    assert choices._lines(" one \n\n two") == ("one", "two")
