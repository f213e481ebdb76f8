"""A report on the page Compare, from the verdict down to the last section."""

from dataclasses import replace

import pytest

from qfund.core.estimate import Estimate
from qfund.engine import key_of
from qfund.engine.store import Store
from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.report import LibraryRun, Range, Saturation
from qfund.features.compare.request.spec import Spec
from qfund.precisions.table import PRECISIONS
from qfund.ui import services
from tests.features.compare.pages import COMPARE, FULL, JUDGED, FakeJobs, board, section, texts
from tests.features.compare.reports import full_report, long_tokens, make_report
from tests.ui.pages import Open


def test_values_that_are_not_finite_are_said_loudly(opened: Open, store: Store) -> None:
    report = make_report(FULL)
    broken = replace(report.results[1], nonfinite_positions=4, fidelity={}, differences=None)
    store.put(COMPARE, key_of(FULL), replace(report, results=(report.results[0], broken)))
    at = opened(to_query(FULL))
    assert any("4 positions gave outputs that are not finite" in error.value for error in at.error)


ANSWER = 0  # charts above the sections: of few candidates there are drawings only
MANY = 1  # of more than there is room for names: memory against damage
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


def test_the_answer_says_what_is_particular_and_no_section_that_nothing_was_left(opened: Open, store: Store) -> None:
    spec = Spec("dummy", precisions=("int8",))
    report = make_report(spec)
    one = replace(report.results[0], note="A note.", left=0, left_modules=())
    store.put(COMPARE, key_of(spec), replace(report, results=(one,)))
    at = opened(to_query(spec), **section("Memory"))
    assert "which runs in fp32. A note." in texts(at)
    assert [each.label for each in at.expander] == ["Each of them in words", "Modules converted: 1"]


@pytest.mark.parametrize("name", ["Fidelity", "Token by token", "Memory", "Data"])
def test_every_section_is_drawn_for_every_precision(opened: Open, store: Store, name: str) -> None:
    report = make_report(EVERY)
    broken = replace(report.results[2], nonfinite_positions=4, fidelity={})
    store.put(COMPARE, key_of(EVERY), replace(report, results=(*report.results[:2], broken, *report.results[3:])))
    at = opened(to_query(EVERY), **section(name))
    assert f"dummy: FP32 against {len(EVERY.precisions)} precisions" in texts(at)
    assert board(at).count('class="qf-pill"') == len(EVERY.precisions), "one line each"
    (error,) = at.error
    assert "FP16: 4 positions gave outputs that are not finite" in error.value.replace("\\", "")


def test_each_candidate_is_answered_in_one_sentence_and_drawn(opened: Open, store: Store, jobs: FakeJobs) -> None:
    store.put(COMPARE, key_of(JUDGED), full_report(JUDGED))
    at = opened(to_query(JUDGED))
    assert [pill in board(at) for pill in ("within your margin", "inconclusive", "outside your margin")] == [True] * 3
    assert "BF16: 960\u00a0B, no measurable change of perplexity" in texts(at)
    assert "more tokens would decide" in board(at)
    assert board(at).count('class="qf-track"') == 2 * len(JUDGED.precisions), "perplexity and tokens of each"
    assert 'class="qf-floor"' in board(at) and "noise floor" in board(at)
    assert "ppl" not in at.query_params, "what is usual is not in the way"
    at.number_input(key="margin_changed").set_value(50.0).run()
    assert not at.exception and not jobs.submitted, "another margin measures nothing"
    assert "outside your margin" not in board(at)
    assert at.query_params["changed"] == "50" and at.query_params["model"] == "dummy"
    at.number_input(key="margin_kl").set_value(1e-6).run()
    assert "No candidate is within your margin" in texts(at) and at.query_params["kl"] == "1e-06"


def test_of_an_encoder_the_cosine_is_asked(opened: Open, store: Store) -> None:
    report = make_report(FULL)
    cosine = {"hidden_cosine": Estimate(0.9999, 1e-5, 9, "")}
    results = tuple(replace(result, fidelity=cosine) for result in report.results)
    store.put(COMPARE, key_of(FULL), replace(report, tokens=None, results=results))
    at = opened(to_query(FULL))
    assert [each.key for each in at.number_input if str(each.key).startswith("margin_")] == ["margin_cos"]
    assert "0.9999" in texts(at), "what can be said of it is said"


@pytest.mark.parametrize("spec", [JUDGED, EVERY])
def test_statistics_are_drawn(opened: Open, store: Store, spec: Spec) -> None:
    store.put(COMPARE, key_of(spec), long_tokens(full_report(spec), 2048))
    at = opened(to_query(spec), **section("Statistics"))
    assert len(at.get("plotly_chart")) == (ANSWER if spec is JUDGED else MANY) + 3
    shown = texts(at)
    assert "The noise floor is the largest of 3 runs" in shown
    # Of 43 the intervals are so wide that some of them reach it.
    assert ("Every candidate is above it" in shown) is (spec is JUDGED)
    assert "which is what" in shown
    at.segmented_control(key="bucket_metric").set_value("top1_agreement").run()
    at.selectbox(key="paired_other").set_value(spec.precisions[0]).run()
    assert "Choose two different ones" in texts(at) and not at.exception


def test_drift_is_drawn_by_what_is_chosen_and_says_where_it_breaks(opened: Open) -> None:
    spec = Spec("dummy", precisions=("bf16", "fp16"))
    services.store().put(COMPARE, key_of(spec), full_report(spec))
    at = opened(to_query(spec), charts=True)
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
    assert len(at.get("plotly_chart")) == ANSWER + 1
    assert "INT8 weight-only with bitsandbytes: bitsandbytes is not installed." in texts(at)
    assert "INT8 weight-only with torchao: Note." in texts(at)
    assert not {"Note", "Problem"} & set(at.dataframe[0].value.columns), "sentences stand where they can be read"
    assert "faster" in texts(at) and "speed-up" not in texts(at)
    bare = opened(**section("Libraries"))  # a section that this report does not have
    assert [tab.label for tab in bare.tabs] == ["Fidelity", "Token by token", "Memory", "Data"]


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


@pytest.mark.parametrize("name", ["Fidelity", "Token by token", "Memory", "Data"])
def test_every_section_is_drawn(opened: Open, name: str) -> None:
    at = opened(**section(name), charts=True)
    assert not at.exception
    charts = {"Fidelity": 1, "Token by token": 0, "Memory": 3, "Data": 0}
    assert len(at.get("plotly_chart")) == ANSWER + charts[name]


@pytest.mark.parametrize("name", ["Fidelity", "Token by token", "Memory", "Data"])
def test_every_section_is_drawn_for_what_has_no_tokens(opened: Open, store: Store, name: str) -> None:
    report = make_report(FULL)
    bare = tuple(replace(result, fidelity={}, differences=None, nonfinite_positions=9) for result in report.results)
    store.put(COMPARE, key_of(FULL), replace(report, tokens=None, results=bare))
    at = opened(to_query(FULL), **section(name))
    if name == "Token by token":
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
    assert not at.get("download_button"), "nothing is made before somebody asks"


def test_it_can_be_taken_along_as_a_page_for_a_card_as_numbers_and_as_pictures(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(to_query(FULL), take_along=True)
    keys = [str(button.key).removeprefix("download_") for button in at.get("download_button")]
    assert keys[:5] == ["html", "md", "json", "csv", "tensors.csv"]
    assert keys[5:] == [
        f"{name}_{kind}" for name in ("memory", "dtypes", "differences", "damage") for kind in ("svg", "png")
    ]
