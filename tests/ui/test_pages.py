"""Pages without a browser: what a link asks for reaches the engine, and whatever happens is told to the visitor."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qfund import engine
from qfund.checkpoints import catalog
from qfund.commandline.parser import parse
from qfund.core.errors import EngineError, ModelNotFound, QueueFull, StoreError, WorkerDied
from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.engine import key_of
from qfund.engine import shipped as engine_shipped
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare import link
from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.report import LibraryRun, Range, Report, Saturation
from qfund.features.compare.request.spec import Spec, checked, like_llama_cpp
from qfund.features.compare.view import calls, choices
from qfund.inputs.texts import SECOND_HALF, NamedText
from qfund.precisions.precision import FAMILIES, STORED
from qfund.precisions.table import PRECISIONS, unavailable
from qfund.ui import pickers, services
from qfund.ui.states import literal
from tests.features.compare.reports import full_report, long_tokens, make_report
from tests.ui import pages
from tests.ui.pages import FakeJobs, query

HALF = "50.4\u00a0% of the memory (960\u00a0B instead of 1.86\u00a0KiB)"  # what BF16 takes of a report made by hand

COMPARE = KINDS["compare"]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    return pages.with_jobs(FakeJobs(), monkeypatch)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    return pages.with_store(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def shipped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shipped comparison is a small one, and weights are not read."""
    monkeypatch.setattr(catalog, "identity", lambda spec: "an identity")
    monkeypatch.setattr(
        engine_shipped, "find", lambda spec, key, **_: make_report() if spec == examples.EXAMPLE else None
    )
    with pages.server(monkeypatch, cold="cold" in request.fixturenames):
        yield


@pytest.fixture
def cold() -> None:
    """A server's first request is this page; see ``tests.ui.pages.server``."""


Open = Callable[..., AppTest]


@pytest.fixture
def opened(jobs: FakeJobs, store: Store) -> Open:
    def run(query: dict[str, list[str]] | None = None, page: str | None = None, **state: object) -> AppTest:
        at = pages.app(query)
        for name, value in state.items():
            at.session_state[name] = value
        at.run()
        if page:
            at.switch_page(page).run()
        assert not at.exception
        return at

    return run


texts = partial(pages.texts, more=("info",))


def section(name: str) -> dict[str, object]:
    from qfund.features.compare.view.sections import SECTIONS

    return {"section": next(title for title in SECTIONS if title.endswith(name))}


def test_the_first_page_shows_the_shipped_comparison(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    assert "pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only" in texts(at)
    assert HALF in texts(at)
    assert "23 November 2026" in texts(at) and "torch 2.13.0+cpu" in texts(at)
    assert not jobs.submitted


def test_the_address_holds_every_parameter(opened: Open) -> None:
    at = opened()
    assert query(at) == to_query(examples.EXAMPLE)


FULL = Spec("dummy", "bf16", ("fp32", "int8"), "0 1 & 1=0 é", 77, 2, None)


def test_a_link_reaches_the_engine_whole_and_only_by_a_click(opened: Open, jobs: FakeJobs) -> None:
    at = opened(to_query(FULL))
    assert not jobs.submitted
    assert "Not measured yet" in texts(at)
    at.button(key="compare").click().run()
    assert jobs.submitted == [FULL]
    assert not at.exception


def test_choices_reach_the_engine(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.selectbox(key="choice_model").set_value("dummy")
    at.selectbox(key="choice_reference").set_value("bf16")
    at.multiselect(key="choice_precisions").set_value(["nf4", "int8", "fp16"])
    at.pills(key="choice_also").set_value(["embeddings"])
    at.toggle(key="choice_libraries").set_value(True)
    at.selectbox(key="choice_tokens").set_value(1024)
    at.segmented_control(key="choice_source").set_value("Your own text").run()
    assert "These choices are not the comparison shown below" in texts(at)
    assert at.query_params["model"] == "pydoc-llama"
    at.text_area(key="choice_text").set_value("1 0 0 1").run()
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert spec == Spec("dummy", "bf16", ("fp16", "int8", "nf4"), "1 0 0 1", 1024, also=("embeddings",), libraries=True)
    assert at.query_params["also"] == "embeddings" and at.query_params["libraries"] == "1"
    assert at.query_params["model"] == "dummy"
    assert at.query_params["text"] == "1 0 0 1"


CORPUS = Spec(
    "dummy", precisions=("bf16",), context=8, stride=4, texts=(NamedText("a.txt", "0 1"), NamedText("b *c*.txt", "1"))
)


@pytest.mark.parametrize("spec", [CORPUS, Spec("dummy", precisions=("bf16",), context=8, scoring=SECOND_HALF)])
def test_a_link_reaches_the_choices_of_texts_and_positions_and_goes_back(
    opened: Open, jobs: FakeJobs, spec: Spec
) -> None:
    at = opened(to_query(spec))
    assert at.number_input(key="choice_stride").value == spec.stride
    assert at.selectbox(key="choice_scoring").value == spec.scoring
    assert at.segmented_control(key="choice_source").value == (choices.OWN_FILES if spec.texts else choices.EVALUATION)
    if spec.texts:
        assert "2 of your texts, each read on its own: a.txt, b *c*.txt" in texts(at)
    at.button(key="compare").click().run()
    assert jobs.submitted == [spec]


def test_positions_are_chosen_and_llama_cpps_by_one_button(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.number_input(key="choice_stride").set_value(9)
    at.button(key="like_llama_cpp").click().run()
    assert (
        at.selectbox(key="choice_scoring").value == SECOND_HALF and at.number_input(key="choice_stride").value is None
    )
    at.button(key="compare").click().run()
    assert jobs.submitted == [like_llama_cpp(examples.EXAMPLE)]
    assert at.query_params["scoring"] == "second-half"


def test_files_are_read_each_on_its_own(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.segmented_control(key="choice_source").set_value(choices.OWN_FILES).run()
    at.button(key="compare").click().run()
    assert "No file is given" in texts(at) and not jobs.submitted
    (picker,) = at.file_uploader
    picker.set_value([("b.txt", "Ä 1".encode(), "text/plain"), ("a.txt", b"0 1", "text/plain")]).run()
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert spec == replace(examples.EXAMPLE, texts=(NamedText("a.txt", "0 1"), NamedText("b.txt", "Ä 1")))
    at.file_uploader[0].set_value([("c.txt", b"\xff\xfe", "text/plain")]).run()
    assert "no UTF-8 text" in texts(at) and "c.txt" not in texts(at)
    at.file_uploader[0].set_value([("d.txt", b"x" * 400_001, "text/plain")]).run()
    at.button(key="compare").click().run()
    assert "The files have 400,001 characters together" in texts(at) and len(jobs.submitted) == 1


def test_what_is_stored_is_shown_at_once(opened: Open, jobs: FakeJobs, store: Store) -> None:
    spec = Spec("dummy", "bf16", ("fp32", "int8"), max_tokens=1024, context=2)
    store.put(COMPARE, key_of(spec), make_report(spec))
    at = opened()
    at.selectbox(key="choice_model").set_value("dummy")
    at.selectbox(key="choice_reference").set_value("bf16")
    at.multiselect(key="choice_precisions").set_value(["fp32", "int8"])
    at.selectbox(key="choice_tokens").set_value(1024)
    at.number_input(key="choice_context").set_value(2)
    at.button(key="compare").click().run()
    assert not jobs.submitted
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"p": ["bf61", "int8"]}, "Ignored unknown precision 'bf61'"),
        ({"tokens": ["many"]}, "Ignored tokens='many' in the link"),
        ({"tokens": ["0"]}, "Ignored tokens='0'"),
        ({"ref": ["fp99"]}, "Unknown precision 'fp99'"),
        ({"v": ["9"]}, "version '9'"),
        ({"colour": ["red"]}, "Ignored unknown link parameter: colour"),
        ({"text": ["x" * 5000]}, "it has 5,000 characters; this page takes 4,000"),
    ],
)
def test_a_bad_link_is_told_and_the_rest_of_it_used(opened: Open, query: dict[str, list[str]], told: str) -> None:
    at = opened({"model": ["dummy"], **query})
    assert told in at.warning[0].value.replace("\\", "")
    assert at.query_params["model"] == "dummy"
    assert at.selectbox(key="choice_model").value == "dummy"


def test_an_unknown_model_says_what_there_is(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real catalog
    monkeypatch.setattr(services, "jobs", FakeJobs)
    at = opened({"model": ["pydoc-lama"]})
    assert "Did you mean: pydoc-llama?" in texts(at)


def test_an_unknown_model_that_is_typed_changes_nothing(
    opened: Open, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened()
    monkeypatch.setattr(catalog, "identity", lambda spec: catalog.locate(spec.model).name)
    # AppTest cannot type what is not among the options.
    monkeypatch.setattr(choices, "draft", lambda: Spec("no such model"))
    at.button(key="compare").click().run()
    assert "Unknown model 'no such model'" in texts(at)
    assert not jobs.submitted
    assert at.query_params["model"] == "pydoc-llama"


def test_no_candidate_is_an_error_with_a_remedy(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.multiselect(key="choice_precisions").set_value([]).run()
    at.button(key="compare").click().run()
    assert "No candidate precision is named" in texts(at) and not jobs.submitted


def test_what_this_device_cannot_run_is_told_and_never_started(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    picker = at.multiselect(key="choice_precisions")
    assert "TF32 (needs a CUDA GPU)" in picker.options
    assert picker.options[-1] == "As stored (for quantised checkpoints)"
    picker.set_value(["tf32", "bf16"]).run()
    for _ in range(2):  # when it is chosen, and when it is asked for all the same
        (said,) = (error.value.replace("\\", "") for error in at.error)
        assert "TF32 needs an NVIDIA GPU" in said and "Choose another precision" in said
        at.button(key="compare").click().run()
    assert not jobs.submitted and not at.exception


def test_a_link_to_what_this_device_cannot_run_says_so(opened: Open) -> None:
    at = opened(to_query(Spec("dummy", "tf32", ("bf16",), also=("head",), libraries=True)))
    assert "TF32 needs an NVIDIA GPU" in at.error[0].value.replace("\\", "")
    assert at.pills(key="choice_also").value == ["head"] and at.toggle(key="choice_libraries").value


def test_sets_hold_what_runs_on_a_cpu() -> None:
    for names in choices.PRESETS.values():
        assert len(names) > 1 and not [name for name in names if unavailable(PRECISIONS[name], "cpu")]
    assert sorted(pickers.WITH_STORED) == sorted(PRECISIONS)


def test_an_empty_text_is_refused(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.segmented_control(key="choice_source").set_value("Your own text").run()
    at.text_area(key="choice_text").set_value("  \n ").run()
    at.button(key="compare").click().run()
    assert "The text is empty" in texts(at) and not jobs.submitted


def test_a_longer_text_than_the_page_takes_never_reaches_the_engine(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.segmented_control(key="choice_source").set_value("Your own text").run()
    at.text_area(key="choice_text").set_value("x" * 100_000).run()
    at.button(key="compare").click().run()
    assert all(len(spec.text or "") <= link.MAX_TEXT for spec in jobs.submitted)


def test_a_running_job_shows_phase_and_share_and_can_be_cancelled(opened: Open, jobs: FakeJobs) -> None:
    job = jobs.set(FULL, state="running", phase="loading *BF16*", share=0.25)
    at = opened(to_query(FULL))
    (bar,) = at.progress
    assert bar.value == 25
    assert str(bar.text).replace("\\", "") == "Loading *BF16* · 25%"
    at.button(key=f"cancel_{job.key}").click().run()
    assert jobs.cancelled == [job.key]
    assert not at.exception


def test_a_waiting_job_says_its_place(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(FULL, state="queued", position=3)
    (bar,) = opened(to_query(FULL)).progress
    assert bar.text == "Waiting: number 3 in the queue"


def test_the_report_before_stays_while_another_one_runs(opened: Open) -> None:
    at = opened()
    at.selectbox(key="choice_model").set_value("dummy").run()
    at.button(key="compare").click().run()
    assert at.progress
    assert "Meanwhile, the comparison before" in texts(at) and HALF in texts(at)


def test_a_failed_job_is_told_without_a_traceback(opened: Open, jobs: FakeJobs) -> None:
    error = WorkerDied("The worker ![x](http://evil.example/x.png) died.", "Try a smaller model.")
    jobs.set(FULL, state="failed", error=error)
    at = opened(to_query(FULL))
    shown = at.error[0].value
    assert "Try a smaller model" in shown.replace("\\", "")
    assert "![x](" not in shown, "what others wrote is not Markdown"
    assert "Traceback" not in texts(at) and not at.exception
    assert at.button(key="compare")


def test_after_a_failure_nothing_invites(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(FULL, state="failed", error=WorkerDied("The worker died.", "Try a smaller model."))
    assert "Not measured yet" not in texts(opened(to_query(FULL)))


def test_a_cancelled_job_invites_to_start_again(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(FULL, state="cancelled", error=EngineError("The comparison was cancelled.", "Compare again."))
    at = opened(to_query(FULL))
    assert "The comparison was cancelled" in texts(at) and "Not measured yet" in texts(at)


def test_a_full_queue_is_told(opened: Open, jobs: FakeJobs) -> None:
    jobs.refuse = QueueFull("The queue is full (8 waiting).", "Try again in a few minutes.")
    at = opened(to_query(FULL))
    at.button(key="compare").click().run()
    assert "The queue is full (8 waiting)" in texts(at)


def test_a_broken_store_is_told_and_the_page_works(opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str) -> Report | None:
        raise StoreError("The disk is full.", "Free some space.")

    monkeypatch.setattr(store, "get", refuse)
    at = opened()
    assert "The disk is full" in at.warning[0].value.replace("\\", "")
    assert HALF in texts(at)


def test_a_report_that_could_not_be_saved_is_shown_and_says_so(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(FULL, state="done", result=make_report(FULL), warning="This result was not saved. The disk is full.")
    at = opened(to_query(FULL))
    assert "This result was not saved" in texts(at)
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)


def test_values_that_are_not_finite_are_said_loudly(opened: Open, store: Store) -> None:
    report = make_report(FULL)
    broken = replace(report.results[1], nonfinite_positions=4, fidelity={}, differences=None)
    store.put(COMPARE, key_of(FULL), replace(report, results=(report.results[0], broken)))
    at = opened(to_query(FULL))
    assert any("4 positions gave outputs that are not finite" in error.value for error in at.error)


EVERY = replace(examples.EVERY_PRECISION, model="dummy")


def test_of_many_candidates_each_can_be_read_in_words(opened: Open, store: Store) -> None:
    report = make_report(EVERY)
    noted = replace(report.results[1], note="Both [were] quantised.")
    store.put(COMPARE, key_of(EVERY), replace(report, results=(report.results[0], noted, *report.results[2:])))
    assert "Both [were]" not in texts(opened(to_query(EVERY)))
    at = opened(to_query(EVERY), in_words=True)
    said = texts(at)
    assert all(f"- **{PRECISIONS[name].label}** " in said for name in EVERY.precisions)
    assert "Both [were] quantised." in said and "Emulated here: GPUs made for it multiply MXFP4" in said
    assert "1 module was quantised; 1 stays: shares its weight with the embedding (1)." in said


def test_a_card_says_what_is_particular_and_no_section_that_nothing_was_left(opened: Open, store: Store) -> None:
    spec = Spec("dummy", precisions=("int8",))
    report = make_report(spec)
    one = replace(report.results[0], note="A note.", left=0, left_modules=())
    store.put(COMPARE, key_of(spec), replace(report, results=(one,)))
    at = opened(to_query(spec), **section("Memory"))
    assert "which runs in fp32. A note." in texts(at)
    assert [each.label for each in at.expander] == ["Modules converted: 1"]


@pytest.mark.parametrize("name", ["Fidelity", "Where", "Memory", "Data"])
def test_every_section_is_drawn_for_every_precision(opened: Open, store: Store, name: str) -> None:
    report = make_report(EVERY)
    broken = replace(report.results[2], nonfinite_positions=4, fidelity={})
    store.put(COMPARE, key_of(EVERY), replace(report, results=(*report.results[:2], broken, *report.results[3:])))
    at = opened(to_query(EVERY), **section(name), numbers=True)
    assert "dummy: FP32 against 43 precisions" in texts(at)
    lines = next(str(html.value) for html in at.html if 'class="qf-board"' in str(html.value))
    assert lines.count('class="qf-pill"') == len(EVERY.precisions), "one line each"
    assert list(at.dataframe[0].value["Precision"]) == [PRECISIONS[each].label for each in EVERY.precisions]
    (error,) = at.error
    assert "FP16: 4 positions gave outputs that are not finite" in error.value.replace("\\", "")


JUDGED = Spec("dummy", precisions=("bf16", "int4", "nf4"))


def board(at: AppTest) -> str:
    return "\n".join(str(html.value) for html in at.html)


def test_each_candidate_is_answered_in_one_sentence_and_drawn(opened: Open, store: Store, jobs: FakeJobs) -> None:
    store.put(COMPARE, key_of(JUDGED), full_report(JUDGED))
    at = opened(to_query(JUDGED))
    assert [pill in board(at) for pill in ("within your margin", "inconclusive", "outside your margin")] == [True] * 3
    assert "INT4 g32 is inconclusive, about" in texts(at) and "more tokens would decide" in texts(at)
    assert board(at).count('class="qf-track"') == 2 * len(JUDGED.precisions), "perplexity and tokens of each"
    assert 'class="qf-floor"' in board(at) and "noise floor" in board(at)
    assert "ppl" not in at.query_params, "what is usual is not in the way"
    at.number_input(key="margin_changed").set_value(50.0).run()
    assert not at.exception and not jobs.submitted, "another margin measures nothing"
    assert "outside your margin" not in board(at) and "NF4 is within your margin" in texts(at)
    assert at.query_params["changed"] == "50" and at.query_params["model"] == "dummy"
    at.number_input(key="margin_kl").set_value(1e-6).run()
    assert "BF16 is outside your margin: KL" in texts(at) and at.query_params["kl"] == "1e-06"


def test_a_margin_comes_with_a_link_and_stays_when_the_visitor_goes_elsewhere(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(JUDGED), full_report(JUDGED))
    at = opened(to_query(JUDGED) | {"ppl": ["0.5"], "changed": [""], "kl": ["0.1"]})
    assert at.number_input(key="margin_ppl").value == 0.5 and at.number_input(key="margin_kl").value == 0.1
    assert at.number_input(key="margin_changed").value is None
    assert not at.warning and "NF4 is within your margin" in texts(at)
    assert "tokens changed" not in texts(at), "an empty margin asks for nothing"
    link_shown = next(code.value for code in at.code if "model=dummy" in code.value)
    assert "ppl=0.5" in link_shown and "changed=&" in link_shown and "kl=0.1" in link_shown
    at.query_params.clear()
    at.switch_page("pages/guide.py").run()
    at.switch_page("pages/compare.py").run()
    assert at.query_params["ppl"] == "0.5" and at.number_input(key="margin_ppl").value == 0.5


@pytest.mark.parametrize("value", ["-1", "101", "many", "nan"])
def test_a_margin_that_cannot_be_is_told(opened: Open, value: str) -> None:
    at = opened({"changed": [value]})
    assert f"Ignored changed='{value}' in the link" in at.warning[0].value.replace("\\", "")
    assert at.number_input(key="margin_changed").value == 2


def test_of_an_encoder_no_margin_is_asked(opened: Open, store: Store) -> None:
    report = make_report(FULL)
    cosine = {"hidden_cosine": Estimate(0.9999, 1e-5, 9, "")}
    results = tuple(replace(result, fidelity=cosine) for result in report.results)
    store.put(COMPARE, key_of(FULL), replace(report, tokens=None, results=results))
    at = opened(to_query(FULL))
    assert not [each for each in at.number_input if str(each.key).startswith("margin_")]
    assert "mean cosine of 0.9999" in texts(at), "what can be said of it is said"


@pytest.mark.parametrize("spec", [JUDGED, EVERY])
def test_statistics_are_drawn(opened: Open, store: Store, spec: Spec) -> None:
    store.put(COMPARE, key_of(spec), long_tokens(full_report(spec), 2048))
    at = opened(to_query(spec), **section("Statistics"))
    assert len(at.get("plotly_chart")) == 4
    shown = texts(at)
    assert "The noise floor is the largest of 3 runs" in shown and "Every candidate is above it" in shown
    assert "which is what" in shown
    at.segmented_control(key="bucket_metric").set_value("top1_agreement").run()
    at.selectbox(key="paired_other").set_value(spec.precisions[0]).run()
    assert "Choose two different ones" in texts(at) and not at.exception


def test_drift_is_drawn_by_what_is_chosen_and_says_where_it_breaks(opened: Open) -> None:
    spec = Spec("dummy", precisions=("bf16", "fp16"))
    services.store().put(COMPARE, key_of(spec), full_report(spec))
    at = opened(to_query(spec))
    assert "FP16 first gives values that are not finite after model.layers.7." in texts(at)
    at.segmented_control(key="drift_by").set_value("SQNR").run()
    assert "Lower is noisier" in texts(at) and not at.exception


def test_a_model_that_was_not_streamed_says_why(opened: Open, store: Store) -> None:
    report = replace(make_report(FULL), whole="its forward reads all layers at once.")
    store.put(COMPARE, key_of(FULL), report)
    assert "Whole models were loaded: its forward reads all layers at once." in texts(opened(to_query(FULL)))


def test_libraries_are_a_section_where_they_were_asked_for(opened: Open, store: Store) -> None:
    spec = Spec("dummy", precisions=("int8",), libraries=True)
    report = make_report(spec)
    runs = (
        LibraryRun("torchao", "0.17.0", "A()", 999, 999, 1, latency=Estimate(1.3, 0.02, 9, "×"), note="Note."),
        LibraryRun("bitsandbytes", "", "B()", problem="bitsandbytes is not installed."),
    )
    own = replace(report.results[0], latency=Estimate(1.5, 0.1, 9, "×"), libraries=runs)
    store.put(COMPARE, key_of(spec), replace(report, results=(own,)))
    at = opened(to_query(spec), **section("Libraries"))
    assert len(at.get("plotly_chart")) == 1
    assert "INT8 weight-only with bitsandbytes: bitsandbytes is not installed." in texts(at)
    assert "INT8 weight-only with torchao: Note." in texts(at)
    assert not {"Note", "Problem"} & set(at.dataframe[0].value.columns), "sentences stand where they can be read"
    assert "faster" in texts(at) and "speed-up" not in texts(at)
    bare = opened(**section("Libraries"))  # a section that this report does not have
    assert [tab.label.split()[-1] for tab in bare.tabs] == ["Fidelity", "Where", "Memory", "Data"]


def test_what_came_near_a_limit_is_said_quietly(opened: Open, store: Store) -> None:
    report = make_report(FULL)
    near = replace(
        report.results[1],
        saturation=Saturation(3, 64, "a_b_c.weight"),
        range=Range(65504.0, 46_800.0, "model.a_b_c", 1.4),
    )
    store.put(COMPARE, key_of(FULL), replace(report, results=(report.results[0], near)))
    at = opened(to_query(FULL))
    assert not at.error
    assert "came within × 1.4 of its limit (46,800 of 65,504 in model.a_b_c)" in texts(at)
    assert "first in a_b_c.weight" in texts(at)


@pytest.mark.parametrize("name", ["Fidelity", "Where", "Memory", "Data"])
def test_every_section_is_drawn(opened: Open, name: str) -> None:
    at = opened(**section(name))
    assert not at.exception
    charts = {"Fidelity": 2, "Where": 0, "Memory": 3, "Data": 0}
    assert len(at.get("plotly_chart")) == charts[name]


@pytest.mark.parametrize("name", ["Fidelity", "Where", "Memory", "Data"])
def test_every_section_is_drawn_for_what_has_no_tokens(opened: Open, store: Store, name: str) -> None:
    report = make_report(FULL)
    bare = tuple(replace(result, fidelity={}, differences=None, nonfinite_positions=9) for result in report.results)
    store.put(COMPARE, key_of(FULL), replace(report, tokens=None, results=bare))
    at = opened(to_query(FULL), **section(name))
    if name == "Where":
        assert "predicts no tokens" in texts(at)


def test_the_data_section_writes_the_same_comparison_three_ways(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(to_query(FULL), **section("Data"))
    written = "\n".join(code.value for code in at.code)
    assert "text=0+1+%26+1%3D0+%C3%A9" in written
    assert (
        "qfund compare dummy --reference bf16 --precision fp32 int8 --max-tokens 77 --context 2 '--text=0 1 & 1=0 é'"
        in written
    )
    assert "qfund.compare('dummy', precisions=['fp32', 'int8'], reference='bf16', max_tokens=77, context=2," in written
    assert len(at.get("download_button")) == 3


SAVED = "pages/saved.py"


def test_an_empty_list_invites(opened: Open) -> None:
    at = opened(page=SAVED)
    assert "Nothing saved yet" in texts(at)
    assert at.button


def test_saved_comparisons_are_listed_and_deleted_after_asking(opened: Open, store: Store) -> None:
    key = key_of(FULL)
    store.put(COMPARE, key, make_report(FULL))
    at = opened(page=SAVED)
    assert "BF16 against FP32 and INT8 weight-only" in texts(at)
    assert "own text" in texts(at)
    at.button(key=f"delete_{key}").click().run()
    assert len(store.listed(COMPARE)) == 1, "asks first"
    assert at.button(key="confirm_delete")


def test_strangers_neither_delete_nor_read_what_others_wrote(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    store.put(COMPARE, "other", make_report(Spec("dummy")))
    at = opened(page=SAVED)
    keys = [button.key for button in at.button]
    assert keys == ["open_other"]
    assert "own text" not in texts(at)
    store.delete("other")
    assert "Those of a visitor's own text are not listed" in texts(opened(page=SAVED))


def test_a_saved_comparison_opens_with_its_complete_link(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(page=SAVED)
    at.button(key=f"open_{key_of(FULL)}").click().run()
    assert not at.exception
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert at.query_params["text"] == FULL.text
    assert at.selectbox(key="choice_tokens").value == 77


def test_a_saved_comparison_says_what_was_asked_for_besides(opened: Open, store: Store) -> None:
    store.put(COMPARE, "one", make_report(Spec("dummy", also=("head",), libraries=True)))
    assert "Quantised too: the output head · with libraries and times" in texts(opened(page=SAVED))
    store.put(COMPARE, "one", make_report(examples.EVERY_PRECISION))
    shown = texts(opened(page=SAVED))
    assert "FP32 against 43 precisions" in shown and "and 37 more" in shown


def test_a_saved_list_that_cannot_be_read_says_why(opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(limit: int = 200) -> list[object]:
        raise StoreError("The database file is damaged.", "Move it away.")

    monkeypatch.setattr(store, "saved", refuse)
    assert "The database file is damaged" in texts(opened(page=SAVED))


PRECISIONS_PAGE = "pages/precisions.py"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_shipped, "find", lambda spec, key, whole=True: None if whole else make_report(spec))


@pytest.mark.usefixtures("measured")
def test_the_page_of_precisions_has_every_row(opened: Open) -> None:
    at = opened(page=PRECISIONS_PAGE)
    at.segmented_control(key="base").set_value("Either").run()
    formats, measured = (frame.value for frame in at.dataframe)
    assert list(formats["name"]) == list(PRECISIONS)
    assert formats.set_index("name").loc["tf32", "here"] == "no: needs a CUDA GPU"
    assert "TF32 needs an NVIDIA GPU" in texts(at), "the whole reason"
    assert formats.set_index("name").loc["int4", "sqnr"] == PRECISIONS["int4"].sqnr_floor
    assert list(measured["Stored (B)"]) == [
        row.footprint_bytes for row in make_report(examples.EVERY_PRECISION).results
    ]
    assert list(measured.columns)[:3] == ["Precision", "KL", "Perplexity ×"], "what a narrow screen shows"
    assert len(measured) == len(examples.EVERY_PRECISION.precisions)
    assert len(at.get("plotly_chart")) == 1
    assert "23 November 2026" in texts(at), "what was measured says when and on what"
    assert at.button(key="compare_these").disabled


@pytest.mark.usefixtures("measured")
def test_precisions_are_filtered_by_family_and_base(opened: Open) -> None:
    at = opened(page=PRECISIONS_PAGE)
    assert {"tf32", "bf16", "int4", "stored"} <= set(at.dataframe[0].value["name"])
    assert not [name for name in at.dataframe[0].value["name"] if name.endswith("_bf16")]
    at.pills(key="family").set_value(["codebook"])
    at.segmented_control(key="base").set_value("BF16").run()
    assert list(at.dataframe[0].value["name"]) == ["nf4_bf16", "fp4_bf16"]
    assert list(at.dataframe[1].value["Precision"]) == ["NF4 on BF16", "FP4 on BF16"]
    assert not at.exception


def test_precisions_that_were_not_measured_invite(opened: Open) -> None:
    at = opened(page=PRECISIONS_PAGE)
    assert "Not measured yet" in texts(at)
    assert len(at.dataframe) == 1 and not at.get("plotly_chart")


def test_the_guide_explains_every_family_and_every_metric(opened: Open) -> None:
    at = opened(page="pages/guide.py")
    shown = texts(at) + "\n".join(str(html.value) for html in at.html)
    for family, meaning in FAMILIES.items():
        assert family == STORED or (family.capitalize() in shown and meaning in shown)
    for metric in METRICS.values():
        assert metric.definition in shown and metric.label in shown


def test_a_visitor_who_comes_back_finds_what_was_there(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(to_query(FULL))
    at.query_params.clear()  # as a click on another page does
    at.switch_page("pages/guide.py").run()
    at.switch_page("pages/compare.py").run()
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert at.query_params["model"] == "dummy"


@pytest.mark.parametrize("page", [SAVED, "pages/guide.py", "pages/compare.py", PRECISIONS_PAGE])
@pytest.mark.usefixtures("cold")
def test_a_page_that_a_fresh_server_runs_by_itself_draws_itself_inside_the_app(opened: Open, page: str) -> None:
    at = opened(page=page)
    assert len(at.title) == 1


def test_a_page_that_cannot_be_opened_leads_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: Spec) -> str:
        if spec.model != examples.EXAMPLE.model:
            raise ModelNotFound("There is no folder /nowhere.", "Check the path.")
        return "an identity"

    monkeypatch.setattr(catalog, "identity", refuse)
    at = opened({"model": ["/nowhere"]})
    assert "There is no folder /nowhere" in texts(at)
    at.button(key="example").click().run()
    assert HALF in texts(at)
    assert at.query_params["model"] == at.selectbox(key="choice_model").value == "pydoc-llama"


def test_what_cannot_be_opened_is_told_once(opened: Open, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: Spec) -> str:
        raise ModelNotFound("There is no folder /nowhere.", "Check the path.")

    monkeypatch.setattr(catalog, "identity", refuse)
    at = opened({"model": ["/nowhere"]})
    at.button(key="compare").click().run()
    assert len(at.error) == 1 and at.button(key="example")


def test_the_link_of_a_local_folder_says_that_it_opens_only_here(opened: Open, store: Store, tmp_path: Path) -> None:
    spec = replace(FULL, model=str(tmp_path))
    store.put(COMPARE, key_of(spec), make_report(spec))
    assert "names a folder on this machine" in texts(opened(to_query(spec), **section("Data")))
    assert "names a folder" not in texts(opened(**section("Data")))


def test_a_link_that_is_too_long_when_encoded_does_not_fit() -> None:
    assert link.fits(replace(FULL, text="x" * 4000))
    assert not link.fits(replace(FULL, text="語" * 1000))
    assert link.fits(replace(CORPUS, texts=(NamedText("a", "x" * 1999), NamedText("b", "x" * 1999))))
    assert not link.fits(replace(CORPUS, texts=(NamedText("a", "x" * 2000), NamedText("b", "x" * 2000))))
    assert not link.fits(replace(CORPUS, texts=(NamedText("a", "語" * 1000),)))


def test_the_reference_is_named_once_in_the_invitation(opened: Open) -> None:
    spec = Spec("dummy", "bf16", ("bf16", "int8"), max_tokens=5)
    assert "loads dummy in BF16 and INT8 weight-only, runs" in texts(opened(to_query(spec)))


def test_the_list_tells_what_is_not_finite_pictures_and_encoders(opened: Open, store: Store) -> None:
    report = make_report(Spec("dummy"))
    broken = replace(report.results[1], nonfinite_positions=4, fidelity={})
    encoder = replace(report.results[2], fidelity={"hidden_cosine": Estimate(0.9999999, 1e-9, 9, "")})
    pictures = replace(report.input, source="pictures", chunks=16)
    store.put(COMPARE, "pictures", replace(report, results=(report.results[0], broken, encoder), input=pictures))
    store.put(COMPARE, "short", make_report(replace(FULL, text="a short one")))
    shown = texts(opened(page=SAVED))
    assert "not finite at 4 positions" in shown
    assert "16 pictures" in shown and "hidden-state cosine 0.9999999" in shown
    assert "own text “a short one”" in shown


def test_a_text_that_no_link_can_hold_opens_from_the_list(opened: Open, store: Store) -> None:
    spec = replace(FULL, text="0 1 " * 2000)
    store.put(COMPARE, key_of(spec), make_report(spec))
    at = opened(page=SAVED)
    at.button(key=f"open_{key_of(spec)}").click().run()
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert "text" not in at.query_params and at.selectbox(key="choice_model").value == "dummy"
    assert "too long for a link" in texts(at)


HARD = (
    FULL,
    replace(FULL, also=("head", "embeddings"), libraries=True),
    Spec("own/model", text="--json -x 'quoted' \n two lines", revision="v1.0"),
    Spec("/a folder/m"),
    replace(FULL, context=64, stride=9),
    Spec("m", scoring=SECOND_HALF),
)


@pytest.mark.parametrize("spec", HARD)
def test_the_command_line_that_is_shown_asks_for_the_same(spec: Spec) -> None:
    options = parse(shlex.split(calls.shell(spec))[1:])
    asked = Spec(
        options.model,
        options.reference,
        tuple(options.precision),
        options.text,
        options.max_tokens,
        options.context,
        options.revision,
        tuple(options.also),
        options.libraries,
        options.stride,
        options.scoring,
    )
    assert asked == spec


@pytest.mark.parametrize("spec", HARD)
def test_the_python_that_is_shown_asks_for_the_same(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Spec] = []
    monkeypatch.setattr(engine, "compute", lambda spec, **_: asked.append(spec))
    exec(calls.python(spec), {})
    assert asked == [spec]


def test_several_texts_are_shown_as_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Spec] = []
    monkeypatch.setattr(engine, "compute", lambda spec, **_: asked.append(spec))
    monkeypatch.chdir(tmp_path)
    (tmp_path / calls.FOLDER).mkdir()
    for named in CORPUS.texts:
        (tmp_path / calls.FOLDER / named.name).write_text(named.text, "utf-8")
    exec(calls.python(CORPUS), {})
    assert checked(asked[0]) == CORPUS
    words = shlex.split(calls.shell(CORPUS))
    assert words[words.index("--text-folder") + 1] == calls.FOLDER


def test_markdown_in_names_is_shown_and_not_obeyed() -> None:
    assert literal("![a](b)") == r"\!\[a\]\(b\)"
    assert literal("a\n\nb") == "a  b"


_NO_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise AssertionError(f"{name} was imported by the web process")

sys.meta_path.insert(0, Refuse())
from streamlit.testing.v1 import AppTest
at = AppTest.from_file("app.py", default_timeout=60).run()
for page in ("pages/saved.py", "pages/guide.py", "pages/precisions.py", "pages/compare.py"):
    assert not at.exception, at.exception
    at.switch_page(page).run()
assert not at.exception, at.exception
import qfund.features.compare.tables.footprints, qfund.features.compare.figures.damage, qfund.features.compare.words.candidates
from pathlib import Path
import importlib
for path in Path("qfund/ui").glob("*.py"):
    importlib.import_module(f"qfund.ui.{path.stem}")
assert not {"torch", "transformers"} & {name.partition(".")[0] for name in sys.modules}
"""


def test_the_web_process_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    environment = {**os.environ, "QFUND_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _NO_TORCH], cwd=pages.ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
