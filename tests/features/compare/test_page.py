"""The page Compare without a browser: what a link asks for reaches the engine, and whatever happens is told."""

import json
import re
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import EngineError, ModelNotFound, QueueFull, StoreError, WorkerDied
from qfund.engine import key_of
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.audit.measure import audit
from qfund.features.audit.request import AuditRequest
from qfund.features.compare import link
from qfund.features.compare.measure.compare import compare as measure
from qfund.features.compare.request import examples, usual
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec, like_llama_cpp
from qfund.features.compare.view import choices
from qfund.features.memory.link import Asked
from qfund.inputs.texts import SECOND_HALF, NamedText
from qfund.precisions.table import PRECISIONS, unavailable
from qfund.ui import pickers, services
from tests.features.compare.pages import COMPARE, CORPUS, FULL, JUDGED, SHOWN, FakeJobs, board, section, texts
from tests.features.compare.reports import full_report, make_report
from tests.features.memory.plans import make_fits
from tests.tiny import gguf_files
from tests.tiny.checkpoints import folder as tiny
from tests.ui.pages import Open, query


def test_the_first_page_shows_the_shipped_comparison(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    assert "pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only" in texts(at)
    assert SHOWN in texts(at)
    assert "23 November 2026" in texts(at) and "torch 2.13.0+cpu" in texts(at)
    assert not jobs.submitted


def test_the_address_holds_every_parameter(opened: Open) -> None:
    at = opened()
    assert query(at) == to_query(examples.EXAMPLE)


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
    at.selectbox(key="choice_source").set_value("Your own text").run()
    assert "These choices are not the comparison shown below" in texts(at)
    assert at.query_params["model"] == "pydoc-llama"
    at.text_area(key="choice_text").set_value("1 0 0 1").run()
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert spec == Spec("dummy", "bf16", ("fp16", "int8", "nf4"), "1 0 0 1", 1024, also=("embeddings",), libraries=True)
    assert at.query_params["also"] == "embeddings" and at.query_params["libraries"] == "1"
    assert at.query_params["model"] == "dummy"
    assert at.query_params["text"] == "1 0 0 1"


@pytest.mark.parametrize("spec", [CORPUS, Spec("dummy", precisions=("bf16",), context=8, scoring=SECOND_HALF)])
def test_a_link_reaches_the_choices_of_texts_and_positions_and_goes_back(
    opened: Open, jobs: FakeJobs, spec: Spec
) -> None:
    at = opened(to_query(spec))
    assert at.text_input(key="choice_stride").value == ("" if spec.stride is None else str(spec.stride))
    assert at.selectbox(key="choice_scoring").value == spec.scoring
    assert at.selectbox(key="choice_source").value == (choices.OWN_FILES if spec.texts else choices.EVALUATION)
    if spec.texts:
        assert "2 of your texts, each read on its own: a.txt, b *c*.txt" in texts(at)
    at.button(key="compare").click().run()
    assert jobs.submitted == [spec]


def test_positions_are_chosen_and_llama_cpps_by_one_button(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.text_input(key="choice_stride").set_value("9")
    at.button(key="like_llama_cpp").click().run()
    assert at.selectbox(key="choice_scoring").value == SECOND_HALF and at.text_input(key="choice_stride").value == ""
    at.button(key="compare").click().run()
    assert jobs.submitted == [like_llama_cpp(examples.EXAMPLE)]
    assert at.query_params["scoring"] == "second-half"


def test_files_are_read_each_on_its_own(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.selectbox(key="choice_source").set_value(choices.OWN_FILES).run()
    at.button(key="compare").click().run()
    assert "No file is given" in texts(at) and not jobs.submitted
    (picker,) = at.file_uploader
    picker.set_value([("b.txt", "\ufeffÄ 1\r\n2".encode(), "text/plain"), ("a.txt", b"0 1", "text/plain")]).run()
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert spec == replace(examples.EXAMPLE, texts=(NamedText("a.txt", "0 1"), NamedText("b.txt", "Ä 1\n2")))
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
    at.text_input(key="choice_context").set_value("2")
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
    at.selectbox(key="choice_source").set_value("Your own text").run()
    at.text_area(key="choice_text").set_value("  \n ").run()
    at.button(key="compare").click().run()
    assert "The text is empty" in texts(at) and not jobs.submitted


def test_a_longer_text_than_the_page_takes_never_reaches_the_engine(opened: Open, jobs: FakeJobs) -> None:
    at = opened()
    at.selectbox(key="choice_source").set_value("Your own text").run()
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
    assert "Meanwhile, the comparison before" in texts(at) and SHOWN in texts(at)


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
    def refuse(kind: object, key: str) -> Report | None:
        raise StoreError("The disk is full.", "Free some space.")

    monkeypatch.setattr(store, "get", refuse)
    at = opened()
    assert "The disk is full" in at.warning[0].value.replace("\\", "")
    assert SHOWN in texts(at)


def test_a_report_that_could_not_be_saved_is_shown_and_says_so(opened: Open, jobs: FakeJobs) -> None:
    jobs.set(FULL, state="done", result=make_report(FULL), warning="This result was not saved. The disk is full.")
    at = opened(to_query(FULL))
    assert "This result was not saved" in texts(at)
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)


def test_a_margin_comes_with_a_link_and_stays_when_the_visitor_goes_elsewhere(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(JUDGED), full_report(JUDGED))
    at = opened(to_query(JUDGED) | {"ppl": ["0.5"], "changed": [""], "kl": ["0.1"]})
    assert at.number_input(key="margin_ppl").value == 0.5 and at.number_input(key="margin_kl").value == 0.1
    assert at.number_input(key="margin_changed").value is None
    assert not at.warning and "BF16: 960" in texts(at)
    assert "token changed" not in board(at), "an empty margin asks for nothing"
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


def test_a_visitor_who_comes_back_finds_what_was_there(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(to_query(FULL))
    at.query_params.clear()  # as a click on another page does
    at.switch_page("pages/guide.py").run()
    at.switch_page("pages/compare.py").run()
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert at.query_params["model"] == "dummy"


def test_a_page_that_cannot_be_opened_leads_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spec: Spec) -> str:
        if spec.model != examples.EXAMPLE.model:
            raise ModelNotFound("There is no folder /nowhere.", "Check the path.")
        return "an identity"

    monkeypatch.setattr(catalog, "identity", refuse)
    at = opened({"model": ["/nowhere"]})
    assert "There is no folder /nowhere" in texts(at)
    at.button(key="example").click().run()
    assert SHOWN in texts(at)
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


def test_the_reference_is_named_once_in_the_invitation(opened: Open) -> None:
    spec = Spec("dummy", "bf16", ("bf16", "int8"), max_tokens=5)
    assert "loads dummy in BF16 and INT8 weight-only, runs" in texts(opened(to_query(spec)))


def test_quantised_files_reach_the_engine_and_the_link(opened: Open, jobs: FakeJobs, tmp_path: Path) -> None:
    path = tmp_path / "tiny-Q8_0.gguf"
    gguf_files.write(tiny("llama"), path)
    at = opened()
    at.multiselect(key="choice_precisions").set_value(["bf16"])
    at.text_input(key="choice_imatrix").set_value(f" {path} ")
    at.text_area(key="choice_quantized").set_value(f"{path}\n\n {path} ").run()
    assert "tiny-Q8_0 (file)" in at.selectbox(key="choice_reference").options
    at.button(key="compare").click().run()
    assert "no candidate that it changes" in texts(at) and not jobs.submitted
    at.multiselect(key="choice_precisions").set_value(["bf16", "q4_k"])
    at.button(key="compare").click().run()
    (spec,) = jobs.submitted
    assert (spec.files, spec.precisions, spec.imatrix) == ((str(path),), ("bf16", "q4_k"), str(path))
    assert at.query_params["quantized"] == str(path)
    again = opened(to_query(spec))
    assert again.text_area(key="choice_quantized").value == again.text_input(key="choice_imatrix").value == str(path)
    assert not again.exception


def test_a_report_of_a_file_says_what_the_file_is(opened: Open, store: Store, jobs: FakeJobs, tmp_path: Path) -> None:
    path = tmp_path / "tiny-Q8_0.gguf"
    gguf_files.write(tiny("llama"), path)
    spec = Spec(str(tiny("llama")), precisions=(), text="one two three four five six", context=8, files=(str(path),))
    store.put(COMPARE, key_of(spec), measure(spec))
    at = opened(to_query(spec), **section("Files"))
    assert not at.exception
    (table,) = [frame.value for frame in at.dataframe if "Format" in frame.value.columns]
    assert table["Format"].tolist() == ["GGUF Q8_0"] and table["File"].tolist() == ["tiny-Q8_0"]
    assert "tiny-Q8_0" in texts(at) and "Files" in [tab.label.rpartition(" ")[2] for tab in at.tabs]
    at.button(key="audit_file:tiny-Q8_0.gguf").click().run()
    (request,) = jobs.submitted
    assert request == AuditRequest(str(path), str(tiny("llama"))) and at.button(key=f"cancel_{key_of(request)}")
    found = audit(request)
    store.put(KINDS["audit"], key_of(request), found)
    at = opened(to_query(spec), **section("Files"))
    assert not at.exception and "kept higher" in texts(at) and "Norms, biases and routers are the original" in texts(at)
    (table,) = [frame.value for frame in at.dataframe if "sqnr" in frame.value.columns]
    assert table["sqnr"].tolist() == [inf if row.same else row.sqnr for row in found.tensors]
    types, sqnr = (json.loads(chart.proto.spec) for chart in at.get("plotly_chart"))
    assert types["data"][0]["type"] == sqnr["data"][0]["type"] == "heatmap"
    assert "Q8_0" in json.dumps(types["data"][0]["text"]) and len(types["data"][0]["x"]) == 3, "two layers, and outside"


def test_the_answer_says_whether_it_fits_where_somebody_runs_it(opened: Open, store: Store, jobs: FakeJobs) -> None:
    store.put(COMPARE, key_of(JUDGED), full_report(JUDGED))
    asked = Asked("dummy", precisions=tuple(name for name in PRECISIONS if name in {"fp32", *JUDGED.precisions}))
    at = opened(to_query(JUDGED))
    assert "worked out in a moment" not in texts(at) and "fits" not in at.success[0].value, "weights alone are known"
    store.put(KINDS["fits"], key_of(asked.fits), make_fits(asked.fits))
    at = opened(to_query(JUDGED) | {"budget": ["rtx-4090"], "length": ["64"]})
    assert at.selectbox(key="hardware_budget").value == "rtx-4090"
    assert "fits your RTX 4090 with" in texts(at) and "KV cache of 1 × 64 tokens" in texts(at)
    at.selectbox(key="hardware_budget").set_value("h100").run()
    assert "fits your H100 with" in texts(at) and at.query_params["budget"] == "h100"
    assert at.query_params["length"] == "64" and not jobs.submitted, "another place to run measures nothing"
    at.text_input(key="hardware_batch").set_value("60,000").run()
    at.text_input(key="hardware_context").set_value("3.5m").run()
    assert at.query_params["length"] == str(3_670_016) and at.text_input(key="hardware_context").value == "3.5m"
    assert "Nothing within your margin fits: BF16, the smallest, lacks" in texts(at)


def test_a_budget_that_cannot_be_is_told_and_the_rest_said(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(JUDGED), full_report(JUDGED))
    at = opened(to_query(JUDGED) | {"budget": ["many"], "batch": ["0"]})
    assert "many" in at.error[0].value and "Ignored batch='0'" in at.warning[0].value.replace("\\", "")
    assert "BF16: 960" in texts(at)


def test_another_model_is_compared_with_what_it_is_stored_in(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    st.cache_data.clear()
    monkeypatch.setattr(usual, "reference", lambda model, revision=None: "bf16" if model == "dummy" else "fp32")
    at = opened()
    at.selectbox(key="choice_model").set_value("dummy").run()
    assert at.selectbox(key="choice_reference").value == "bf16"
    assert at.multiselect(key="choice_precisions").value == list(usual.ON_16_BITS)
    at.multiselect(key="choice_precisions").set_value(["nf4"]).run()
    at.selectbox(key="choice_model").set_value("pydoc-llama").run()
    assert at.multiselect(key="choice_precisions").value == ["nf4"], "what somebody chose stays"
    at = opened({"model": ["dummy"]})
    assert at.query_params["ref"] == "bf16" and at.query_params["p"] == list(usual.ON_16_BITS)
    at = opened({"model": ["dummy"], "ref": ["fp32"], "p": ["int8"]})
    assert at.query_params["ref"] == "fp32" and at.query_params["p"] == "int8", "a link keeps what it names"


def test_more_tokens_are_measured_where_they_would_decide(opened: Open, store: Store, jobs: FakeJobs) -> None:
    spec = replace(JUDGED, max_tokens=4096)
    store.put(COMPARE, key_of(spec), full_report(spec))
    at = opened(to_query(spec))
    button = at.button(key="decide")
    assert re.fullmatch(r"Read [\d.]+ k more tokens to decide, about .+", button.label)
    button.click().run()
    (asked,) = jobs.submitted
    assert asked.max_tokens > 4096 and replace(asked, max_tokens=4096, until=None) == spec
    assert asked.until == Margin(), "who looked before may look again"
    assert at.query_params["tokens"] == str(asked.max_tokens)


def test_an_old_result_does_not_look_like_the_new_one(opened: Open) -> None:
    at = opened()
    assert ".st-key-report{opacity" not in board(at)
    at.selectbox(key="choice_model").set_value("dummy").run()
    assert ".st-key-report{opacity" in board(at)
    at.button(key="compare").click().run()
    assert at.progress and ".st-key-report{opacity" in board(at)


def test_the_section_that_is_open_stands_in_the_address(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(to_query(FULL), **section("Data"))
    assert query(at)["section"] == ["data"]
    at = opened(to_query(FULL) | {"section": ["data"]})
    assert "qfund compare dummy" in texts(at) and query(at)["section"] == ["data"]
    at = opened(to_query(FULL) | {"section": ["nowhere"]})
    assert "Ignored section='nowhere'" in at.warning[0].value and "section" not in query(at)
