"""The page Memory without a browser: what a link asks for reaches the engine, and whatever happens is told."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from qfund.checkpoints import catalog
from qfund.commandline.parser import parse
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, QfundError, QueueFull, UnsupportedModel, WorkerDied
from qfund.core.request import Request
from qfund.engine import key_of
from qfund.engine.jobs import Job
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.spec import Spec
from qfund.features.memory import link as memory_link
from qfund.features.memory.link import Asked
from qfund.features.memory.request import fits
from qfund.features.memory.request.fits import DEFAULT_PRECISIONS, Fits, FitsRequest
from qfund.features.memory.request.load_peak import LoadPeakRequest, LoadPeaks
from qfund.features.memory.request.plan import Plan, PlanRequest
from qfund.features.memory.view import data
from qfund.features.memory.view import fit as fit_view
from qfund.features.memory.words import load_needs
from qfund.ui import services
from tests.features.compare.reports import make_report
from tests.features.memory.plans import FORWARD, HEADERS, PLAN, make_fits, make_peaks, way
from tests.ui import pages
from tests.ui.pages import query

COMPARE = KINDS["compare"]


class FakeJobs(pages.FakeJobs):
    """Answers plans and fits at once with ``tests.features.memory.plans``; a load runs until a test ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.fails: dict[type, QfundError] = {}

    def answer(self, request: Request) -> Job:
        if error := self.fails.get(type(request)):
            return self.set(request, state="failed", error=error)
        if self.slow or isinstance(request, LoadPeakRequest):
            return self.set(request, state="running", phase="BF16, direct: reading", share=0.25)
        return self.set(request, state="done", result=make_fits(request) if isinstance(request, FitsRequest) else PLAN)


@pytest.fixture(autouse=True)
def headers(page_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is read."""
    monkeypatch.setattr(catalog, "identity", lambda request: f"{request.model} on cpu")
    monkeypatch.setattr(services, "at_once", lambda request: HEADERS)


Open = Callable[..., AppTest]


@pytest.fixture
def opened(jobs: FakeJobs) -> Open:
    return partial(pages.opened, "pages/memory.py", to_query=memory_link.to_query)


texts = partial(pages.texts, more=("info", "success", "metric"))


def test_the_address_holds_every_choice(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    assert query(at) == memory_link.to_query(Asked())
    assert [type(request) for request in jobs.submitted] == [PlanRequest, FitsRequest], "no load is measured unasked"
    assert jobs.submitted[0] == Asked().plan
    assert "tf32" in Asked().plan.precisions, "what a device cannot run takes memory on another"
    assert "BF16, exact: 2.4 KiB" in texts(at) and "Parameters: 1.21 k" in texts(at)
    assert "Choose FP32" in texts(at) and len(at.get("plotly_chart")) == 1


FULL = Asked(
    "dummy",
    None,
    ("head",),
    ("bf16", "int8_bf16"),
    "rtx-4090",
    8192,
    4,
    "fp8",
    "int4",
    "data",
)


def test_a_link_is_opened_whole(opened: Open, jobs: FakeJobs) -> None:
    at = opened(FULL)
    assert query(at) == memory_link.to_query(FULL) and not at.warning
    assert jobs.submitted[0] == PlanRequest("dummy", Asked().plan.precisions, ("head",))
    assert isinstance(jobs.submitted[1], FitsRequest) and jobs.submitted[1].precisions == ("bf16", "int8_bf16")
    for line in data.command_lines(FULL):
        assert line in texts(at)


@pytest.mark.parametrize("asked", [Asked(), FULL, Asked("org/name", "v1", budget="24 GiB")])
def test_link_and_choices_are_each_other_s_inverse(asked: Asked) -> None:
    assert memory_link.from_query(memory_link.to_query(asked)) == (asked, [])


def test_the_default_is_in_the_table_s_order() -> None:
    assert Asked().precisions == DEFAULT_PRECISIONS
    assert memory_link.from_query({"p": list(reversed(DEFAULT_PRECISIONS))})[0].precisions == DEFAULT_PRECISIONS


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ({"p": ["bf61", "bf16"]}, "Ignored unknown p='bf61'"),
        ({"context": ["many"]}, "Ignored context='many'"),
        ({"context": ["0"]}, "Ignored context='0'"),
        ({"batch": ["9" * 5000]}, "Ignored batch='999"),
        ({"kv": ["fp99"]}, "Ignored kv='fp99'"),
        ({"section": ["nowhere"]}, "Ignored section='nowhere'"),
        ({"colour": ["red"]}, "Ignored unknown link parameter: colour"),
    ],
)
def test_a_bad_link_is_told_until_something_is_chosen(opened: Open, link: dict[str, list[str]], told: str) -> None:
    at = opened(link)
    assert told in at.warning[0].value.replace("\\", "")
    at.run()
    assert told in at.warning[0].value.replace("\\", ""), "a rerun is no answer"
    at.text_input(key="memory_batch").set_value("7").run()
    assert at.query_params["batch"] in ("7", ["7"])
    at.run()
    assert not at.warning


def test_a_slider_moves_the_bars_and_starts_no_job(opened: Open, jobs: FakeJobs) -> None:
    at = opened(Asked(budget="16GiB"))
    asked = list(jobs.submitted)
    before = at.dataframe[0].value
    at.selectbox(key="memory_context").set_value(8192).run()
    after = at.dataframe[0].value
    assert jobs.submitted == asked
    # 2 layers × 16 elements × 4 bytes a token.
    assert before["KV cache (B)"].iloc[0] == 4096 * 128 and after["KV cache (B)"].iloc[0] == 8192 * 128
    assert query(at)["context"] == ["8192"]


def test_another_precision_starts_no_other_plan(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.multiselect(key="memory_precisions").set_value(["bf16", "fp64"]).run()
    assert [type(request) for request in jobs.submitted] == [PlanRequest, FitsRequest, FitsRequest]
    assert query(at)["p"] == ["fp64", "bf16"] or query(at)["p"] == ["bf16", "fp64"]


@pytest.mark.parametrize("budget", ["0", "nothing", "0GiB", "-1", "24 bananas", "🦆"])
def test_a_budget_that_is_none_says_so(opened: Open, budget: str) -> None:
    at = opened(Asked(budget=budget))
    assert "The budget" in at.error[0].value.replace("\\", "") and not at.get("plotly_chart")


def test_nothing_that_fits_is_said_loudly(opened: Open) -> None:
    at = opened(Asked(budget="1MiB"))
    assert "Nothing fits" in at.error[0].value


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFound("There is no folder /nowhere.", "Check the path."),
        CorruptCheckpoint("The header is malformed: overlaps.", "Download it again."),
        ModelNotFound("org/gated is gated.", "Accept its terms."),
    ],
)
def test_a_model_that_cannot_be_read_says_why(
    opened: Open, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, error: QfundError
) -> None:
    def refuse(request: PlanRequest) -> None:
        raise error

    monkeypatch.setattr(services, "at_once", refuse)
    at = opened()
    assert error.message in texts(at) and error.remedy in texts(at)
    assert not jobs.submitted


def test_headers_are_there_before_the_plan(opened: Open, jobs: FakeJobs) -> None:
    jobs.slow = True
    at = opened()
    assert "BF16, estimate: 2.75 KiB" in texts(at) and "Stored on disk: 5.51 KiB" in texts(at)
    assert len(at.progress) == 1 and not at.tabs


def test_a_plan_that_failed_is_told_and_not_started_again_by_itself(opened: Open, jobs: FakeJobs) -> None:
    jobs.fails[PlanRequest] = UnsupportedModel("No such architecture.", "Choose another model.")
    at = opened()
    at.run()
    assert "No such architecture" in texts(at) and len(jobs.submitted) == 1
    at.button(key=f"again_{key_of(Asked().plan)}").click().run()
    assert len(jobs.submitted) == 2


def test_what_cannot_be_sized_leaves_the_other_sections(opened: Open, jobs: FakeJobs) -> None:
    jobs.fails[FitsRequest] = UnsupportedModel("It reads pictures.", "See its weights with qfund plan.")
    assert "It reads pictures" in texts(opened())
    assert "It reads pictures" not in texts(opened(Asked(section="modules")))


def test_a_full_queue_is_told(opened: Open, jobs: FakeJobs) -> None:
    jobs.refuse = QueueFull("The queue is full (8 waiting).", "Try again in a few minutes.")
    assert "The queue is full" in texts(opened())


def test_loading_is_measured_by_a_click_and_can_be_cancelled(opened: Open, jobs: FakeJobs) -> None:
    at = opened(Asked(section="loading"))
    assert "Not measured yet" in texts(at)
    at.button(key="measure_loading").click().run()
    asked = LoadPeakRequest("pydoc-llama", ("bf16",))
    assert jobs.submitted[-1] == asked
    assert at.progress[0].value == 25 and at.button(key="measure_loading").disabled
    at.button(key=f"cancel_{key_of(asked)}").click().run()
    assert jobs.cancelled == [key_of(asked)] and not at.exception


def test_a_load_that_died_says_so(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(Asked().load_peaks("bf16"), state="failed", error=WorkerDied("The worker died.", "Use a smaller model."))
    assert "The worker died" in texts(opened(Asked(section="loading")))


def test_what_was_loaded_is_drawn_and_joins_the_sizes(opened: Open, jobs: FakeJobs) -> None:
    request = LoadPeakRequest("pydoc-llama", ("bf16",))
    jobs.set(request, state="done", result=make_peaks(request))
    at = opened(Asked(section="loading"))
    assert len(at.get("plotly_chart")) == 2, "one curve a way that was measured"
    assert load_needs(make_peaks(request), "bf16") in texts(at)
    at = opened(Asked(precisions=("bf16",), section="sizes"))
    assert "only while loading: +100 B" in texts(at)
    assert "not measured yet" not in texts(at)
    assert "not measured yet" in texts(opened(Asked(precisions=("int8_bf16",), section="sizes")))


def test_what_is_quantised_already_is_loaded_as_it_is_stored(opened: Open, jobs: FakeJobs) -> None:
    """Its multiples are of what is stored, and no fp32 load stands beside it."""
    asked = Asked(section="loading", load="stored")
    alone = way("stored", "as-stored", 3000, 2900, 3100, FORWARD)
    found = replace(make_peaks(asked.load_peaks("stored")), reference=alone, ways=(alone,))
    jobs.set(asked.load_peaks("stored"), state="done", result=found)
    at = opened(asked)
    assert memory_link.from_query(memory_link.to_query(asked))[0] == asked
    (rows,) = [frame.value for frame in at.dataframe if "Way" in frame.value]
    assert list(rows["Precision"]) == ["As stored"]
    assert "the weights as they are stored" in texts(at)


def test_sizes_say_what_was_counted_in_a_comparison(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Not measured yet in a loaded model" in texts(opened(Asked(section="sizes")))
    spec = Spec("pydoc-llama", "fp32", ("bf16",))
    report = make_report(spec)
    store.put(COMPARE, "a key", report)
    monkeypatch.setattr(catalog, "identity", lambda request: f"{report.environment.model_id} on cpu")
    assert "In 2 of 2 precisions" in texts(opened(Asked(section="sizes")))
    monkeypatch.setattr(catalog, "identity", lambda request: "other weights on cpu")
    assert "Not measured yet in a loaded model" in texts(opened(Asked(section="sizes"))), "of other weights"


def test_modules_are_a_treemap_with_a_legend(opened: Open) -> None:
    at = opened(Asked(section="modules"))
    assert len(at.get("plotly_chart")) == 1
    assert any("int8 1000 B" in str(html.value) for html in at.html)
    assert list(at.dataframe[0].value["Predicted (B)"]) == [4880, 2460, 1476]


def test_what_fits_is_exported_under_the_workload_that_is_chosen() -> None:
    found = make_fits(Asked().fits)
    workload = Asked(budget="2GiB", context=10).workload()
    exported = msgspec.json.decode(msgspec.json.encode(fit_view.under(found, workload)), type=Fits)
    assert exported == make_fits(FitsRequest("pydoc-llama", workload))
    assert json.loads(msgspec.json.encode(exported))["request"]["workload"]["budget"] == 2**31


@pytest.mark.parametrize("asked", [Asked(), FULL, Asked("org/name", "v1", budget="24 GiB")])
def test_the_command_lines_ask_for_the_same(asked: Asked) -> None:
    plan, fit, load = (parse(shlex.split(line)[1:]) for line in data.command_lines(asked))
    assert (plan.model, tuple(plan.precision), tuple(plan.also)) == (asked.model, asked.precisions, asked.also)
    assert (fit.context, fit.batch, fit.kv) == (asked.context, asked.batch, asked.kv)
    assert asked.budget in (fit.budget, fit.gpu)
    assert (load.model, tuple(load.precision), load.revision) == (asked.model, (asked.load,), asked.revision)


@pytest.mark.usefixtures("cold")
def test_a_fresh_server_s_first_page_may_be_this_one(opened: Open) -> None:
    assert len(opened(FULL).title) == 1


def test_names_of_a_stranger_are_shown_and_not_obeyed(opened: Open) -> None:
    at = opened(Asked("org/name", budget="![x](https://example.com/x.png)"))
    assert not any("![x](" in str(error.value) for error in at.error)


def test_kinds_answer_with_what_the_page_expects(opened: Open, store: Store) -> None:
    """What the engine stores reads back as what is drawn."""
    for found, kind in (
        (PLAN, Plan),
        (make_peaks(Asked().load_peaks("bf16")), LoadPeaks),
        (make_fits(Asked().fits), Fits),
    ):
        assert msgspec.json.decode(msgspec.json.encode(found), type=kind) == found
    assert fits.checked(Asked().fits) == Asked().fits
