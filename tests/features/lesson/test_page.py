"""The page Nine questions without a browser: evidence at once where it ships, else by a click, and guesses first."""

from collections.abc import Callable
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from qfund.checkpoints import catalog
from qfund.core.errors import ModelNotFound, QueueFull, WorkerDied
from qfund.core.request import Request
from qfund.engine import key_of
from qfund.features.compare.request import examples
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson import link
from qfund.features.lesson.request.notebook import NotebookRequest
from qfund.features.lesson.request.questions import FEW, MANY, PREDICTIONS, QUESTIONS, THEN_AND_NOW, Asked
from qfund.features.memory.request.load_peak import LoadPeakRequest
from qfund.features.memory.request.plan import PlanRequest
from qfund.ui import services
from tests.ui import pages
from tests.ui.pages import FakeJobs, query

#: A model that does not ship: the toy model by its folder.
ELSEWHERE = str(catalog.CATALOG["dummy"].folder)


pytestmark = pytest.mark.usefixtures("page_server")

Open = Callable[..., AppTest]


@pytest.fixture
def opened(jobs: FakeJobs) -> Open:
    return partial(pages.opened, "pages/questions.py", to_query=link.to_query)


texts = partial(pages.texts, more=("header", "info", "success", "metric"))

SHOWN = tuple((name, len(prediction.options)) for name, prediction in PREDICTIONS.items())


@pytest.mark.parametrize("model", catalog.CATALOG)
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_first_visit_shows_real_evidence_and_starts_nothing(
    opened: Open, jobs: FakeJobs, model: str, name: str
) -> None:
    at = opened(Asked(model, None, name, SHOWN))
    said = texts(at)
    assert QUESTIONS[name].title in said and QUESTIONS[name].answer in "\n".join(
        str(element.value) for element in at.markdown
    )
    assert f'"models/{model}"' in at.code[0].value
    assert at.get("plotly_chart") or at.dataframe
    assert "Not measured yet" not in said and not jobs.submitted
    assert not at.error and not at.warning
    assert query(at) == link.to_query(Asked(model, None, name, SHOWN))


def test_the_first_question_comes_first_and_the_next_one_follows(opened: Open) -> None:
    at = opened()
    assert "1. What does printing" in texts(at) and query(at) == {"model": ["pydoc-llama"], "q": ["dtypes"]}
    at.button(key="turn_1").click().run()
    assert "2. What does casting" in texts(at) and query(at)["q"] == ["cast"]
    at.button(key="turn_-1").click().run()
    assert query(at)["q"] == ["dtypes"]


def test_the_course_s_numbers_are_one_table(opened: Open) -> None:
    at = opened(Asked(question=THEN_AND_NOW))
    frame = at.dataframe[0].value.set_index("Figure")
    assert (
        frame.loc["BLIP captioner in FP32", "Then"]
        == "989,660,400 B"
        == frame.loc["BLIP captioner in FP32", "Difference undone"]
    )
    assert frame.loc["DummyModel, largest |FP32 − BF16| of the logits", "Now"] == "0.0016907453536987305"
    assert "11 exactly, 6 explained" in texts(at)


@pytest.mark.parametrize(
    ("question", "name", "guess", "told"),
    [
        ("footprint", "ratio", 1, "You said exactly 0.5. Measured: 0.5000039345"),
        ("footprint", "ratio", 2, "Right. 0.5000039345"),
        ("footprint", "ratio", 4, "0.5000039345"),
        ("savings", "times", 3, "You said 4 ×. Measured: 2.85"),
        ("loading", "peak", 0, "You said 1 ×. Measured: 2.0"),
        ("cast", "rounded", 0, "4,066,501 of 4,066,560"),
    ],
)
def test_numbers_come_after_the_guess(opened: Open, question: str, name: str, guess: int, told: str) -> None:
    at = opened(Asked(question=question))
    assert told.split()[-1] not in texts(at) and not at.get("plotly_chart")
    at.button_group(key=f"guess_{name}").set_value(guess).run()
    assert told in texts(at).replace("*", "") and at.get("plotly_chart")
    assert query(at)["guess"] == [f"{name}.{guess}"]


def test_both_guesses_of_one_question_stay_in_the_link(opened: Open) -> None:
    at = opened(Asked(question="savings", guesses=(("times", 0),)))
    at.button_group(key="guess_speed").set_value(1).run()
    assert query(at)["guess"] == ["times.0", "speed.1"]
    assert "In the course, flan-t5-small, how many times smaller: 2.43" in texts(at)


@pytest.mark.parametrize(
    ("question", "button", "request_"),
    [
        ("dtypes", "Run the notebook", Asked(ELSEWHERE).lesson),
        ("linear", "Run the notebook", Asked(ELSEWHERE).lesson),
        ("outputs", "Compare outputs", Asked(ELSEWHERE).comparison),
        ("loading", "Measure loading", Asked(ELSEWHERE).load_peaks),
    ],
)
def test_what_is_not_there_is_measured_by_a_click(
    opened: Open, jobs: FakeJobs, question: str, button: str, request_: Request
) -> None:
    at = opened(Asked(ELSEWHERE, None, question))
    assert "Not measured yet" in texts(at) and not jobs.submitted
    assert f'"{ELSEWHERE}"' in at.code[0].value
    at.button(key=f"measure_{button}").click().run()
    assert jobs.submitted == [request_]
    assert at.progress[0].value == 25
    at.button(key=f"cancel_{key_of(request_)}").click().run()
    assert "Not measured yet" in texts(at)


def test_a_plan_is_asked_for_by_opening(opened: Open, jobs: FakeJobs) -> None:
    opened(Asked(ELSEWHERE, None, "footprint"))
    assert [type(request) for request in jobs.submitted] == [PlanRequest]


def test_the_requests_are_those_of_the_other_pages() -> None:
    """So that what was measured there is found here."""
    assert Asked().comparison == examples.EXAMPLE
    assert Asked().load_peaks == LoadPeakRequest("pydoc-llama", ("bf16",))
    assert Asked().timing(MANY).libraries and Asked().timing(FEW).max_tokens == 2
    assert isinstance(Asked().comparison, Spec) and isinstance(Asked().lesson, NotebookRequest)


def test_a_job_that_failed_says_why(opened: Open, jobs: FakeJobs) -> None:
    asked = Asked(ELSEWHERE, None, "deepcopy")
    jobs.set(asked.lesson, state="failed", error=WorkerDied("The worker died.", "Use a smaller model."))
    at = opened(asked)
    assert "The worker died" in texts(at) and "Use a smaller model" in texts(at)
    jobs.refuse = QueueFull("The queue is full (8 waiting).", "Try again in a few minutes.")
    at.button(key="measure_Run the notebook").click().run()
    assert "The queue is full" in texts(at)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_model_that_is_not_there_says_so(opened: Open, jobs: FakeJobs, question: str) -> None:
    at = opened(Asked("/no/such/folder", None, question))
    assert "There is no folder" in texts(at) and not jobs.submitted


def test_a_hub_that_does_not_answer_says_so(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: PlanRequest) -> None:
        raise ModelNotFound("org/gated is gated.", "Accept its terms.")

    monkeypatch.setattr(services, "at_once", refuse)
    at = opened(Asked("org/gated"))
    assert "org/gated is gated" in texts(at) and "Accept its terms" in texts(at)


def test_a_bad_link_is_told_and_the_first_question_shown(opened: Open) -> None:
    at = opened({"q": ["tenth"], "guess": ["ratio.77"]})
    assert "Ignored q='tenth'" in texts(at) and "1. What does printing" in texts(at)
    at.button(key="turn_1").click().run()
    assert not at.warning


def test_a_name_of_a_stranger_is_shown_and_not_obeyed(opened: Open) -> None:
    at = opened(Asked("![x](https://example.com/x.png)"))
    assert not any("![x](" in str(element.value) for kind in (at.markdown, at.error, at.caption) for element in kind)
