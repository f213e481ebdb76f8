"""Frames: values counted by hand, and sums that must come out."""

import csv
import io
from dataclasses import replace

import pandas as pd
import pytest

from qfund.core.estimate import Estimate
from qfund.core.metrics.histogram import Histogram
from qfund.core.metrics.table import METRICS
from qfund.core.tensors import LeftModule, TensorRow
from qfund.drawing import columns, phrases
from qfund.features.compare.request import bits
from qfund.features.compare.request.report import Alternatives, LibraryRun, PrecisionResult, Range, Report, Saturation
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.tables import damage, export, footprints, libraries, metrics
from qfund.features.compare.tables import tokens as tokens_tables
from tests.features.compare.reports import disagreement, make_report


@pytest.fixture
def report() -> Report:
    return make_report()


def tensor(name: str, count: int, dtype: str = "float32", kind: str = "weight", shared: str | None = None) -> TensorRow:
    return TensorRow(name, (count // 4,), dtype, dtype, "float32", count // 4, count, kind, shared)


def holding(result: PrecisionResult, *rows: TensorRow) -> PrecisionResult:
    return replace(result, tensors=rows)


def test_fidelity_has_a_row_for_each_candidate_and_metric(report: Report) -> None:
    frame = metrics.fidelity(report)
    assert len(frame) == sum(len(result.fidelity) for result in report.results)
    row = frame[(frame["precision"] == "int8") & (frame["metric"] == "kl_mean")].iloc[0]
    assert row["value"] == report.results[2].fidelity["kl_mean"].value
    assert row["definition"] == METRICS["kl_mean"].definition


def test_the_table_of_fidelity_has_a_column_for_each_candidate(report: Report) -> None:
    frame = metrics.metrics_text(report)
    assert list(frame.columns) == [
        *("Metric", "BF16", "FP16", "INT8 weight-only", "FP32 (reference)", "Better", "Definition")
    ]
    perplexity = frame[frame["Metric"] == "Perplexity"].iloc[0]
    assert perplexity["FP32 (reference)"] != "–"
    assert frame[frame["Metric"] == "KL divergence, mean (nat)"].iloc[0]["FP32 (reference)"] == "–"


def test_a_report_of_which_nothing_could_be_compared_gives_empty_frames(report: Report) -> None:
    results = tuple(replace(result, fidelity={}, differences=None) for result in report.results)
    report = replace(report, results=results, tokens=None)
    assert metrics.fidelity(report).empty
    assert metrics.metrics_text(report).empty
    assert {"Metric", "Better", "Definition"} <= set(metrics.metrics_text(report).columns)
    assert damage.differences(report).empty
    assert damage.memory_against_damage(report).empty
    assert tokens_tables.disagreements(report, "bf16").empty


def broken(report: Report, *places: int) -> Report:
    results = tuple(
        replace(result, fidelity={}, nonfinite_positions=10) if index in places else result
        for index, result in enumerate(report.results)
    )
    return replace(report, results=results)


def test_a_candidate_that_is_not_finite_keeps_its_column_and_leaves_the_others(report: Report) -> None:
    frame = metrics.metrics_text(broken(report, 1))
    assert set(frame["FP16"]) == {"not finite"} and "not finite" not in set(frame["BF16"])
    assert list(damage.memory_against_damage(broken(report, 1))["precision"]) == ["bf16", "int8"]
    assert damage.memory_against_damage(broken(report, 0, 1, 2)).empty


def test_the_treemap_opens_on_weights_in_several_dtypes(report: Report) -> None:
    assert footprints.mixed(report) == "int8"
    assert footprints.mixed(replace(report, results=report.results[:2])) == "bf16"
    assert footprints.mixed(make_report(Spec("dummy", precisions=("fp32",)))) == "fp32"


def test_parts_add_up_to_footprints(report: Report) -> None:
    totals = footprints.footprints(report).set_index("precision")["footprint"]
    sums = footprints.parts(report).groupby("precision")["bytes"].sum()
    assert sums.to_dict() == totals.to_dict()
    assert totals["fp32"] == 4 * (50 * 8 + 8 * 8 + 8) + 16
    assert totals["int8"] == 4 * (50 * 8 + 8) + 8 * 8 + 32 + 16


def test_dtypes_add_up_to_footprints_and_to_one(report: Report) -> None:
    frame = footprints.dtypes(report)
    totals = footprints.footprints(report).set_index("precision")["footprint"]
    assert frame.groupby("precision")["bytes"].sum().to_dict() == totals.to_dict()
    assert all(abs(whole - 1) < 1e-12 for whole in frame.groupby("precision")["share"].sum())


def test_the_reference_as_its_own_candidate_is_shown_once() -> None:
    report = make_report(Spec("dummy", precisions=("fp32", "bf16")))
    assert list(footprints.footprints(report)["precision"]) == ["fp32", "bf16"]
    assert set(metrics.fidelity(report)["precision"]) == {"fp32", "bf16"}


def test_tensors_are_all_listed_and_tied_ones_say_so(report: Report) -> None:
    frame = footprints.tensors(report.results[0])
    assert frame["bytes"].sum() == report.results[0].footprint_bytes
    tied = frame[frame["name"] == "lm_head.weight"].iloc[0]
    assert (tied["bytes"], tied["shared with"], tied["shape"]) == (0, "model.embed.weight", "50 × 8")


def test_every_box_of_the_tree_is_the_sum_of_the_boxes_in_it(report: Report) -> None:
    for result in (report.reference, *report.results):
        frame = footprints.modules(result)
        assert frame["id"].is_unique
        assert frame.iloc[0]["bytes"] == result.footprint_bytes
        held = frame.set_index("id")["bytes"]
        for parent, inside in frame[frame["parent"] != ""].groupby("parent"):
            assert inside["bytes"].sum() == held[parent]
        leaves = frame[frame["dtype"] != ""]
        assert leaves["bytes"].sum() == result.footprint_bytes


def test_a_branch_with_one_child_is_joined_with_it(report: Report) -> None:
    result = holding(report.reference, tensor("a.b.c.weight", 8), tensor("a.b.d.weight", 4))
    frame = footprints.modules(result)
    assert list(frame["label"]) == ["all tensors", "a.b", "c", "d"]
    assert list(frame["bytes"]) == [12, 12, 8, 4]
    alone = footprints.modules(holding(report.reference, tensor("weight", 8)))
    assert list(alone["name"]) == ["model", "weight"]


@pytest.mark.parametrize("below", ["a.weight.scale", "a.weight.inner.scale", "a.scale"])
def test_scales_are_counted_with_their_weight_wherever_they_are_named(report: Report, below: str) -> None:
    result = holding(report.reference, tensor("a.weight", 8, "int8"), tensor(below, 4, kind="scale"))
    frame = footprints.modules(result)
    assert frame.iloc[0]["bytes"] == 12
    assert frame[frame["dtype"] != ""]["bytes"].sum() == 12
    assert "int8" in set(frame["dtype"])


def test_a_module_has_the_dtype_of_most_of_its_bytes(report: Report) -> None:
    result = holding(report.reference, tensor("a.weight", 8, "int8"), tensor("a.scale", 4, kind="scale"))
    leaf = footprints.modules(result).iloc[-1]
    assert (leaf["label"], leaf["dtype"], leaf["dtypes"]) == ("a", "int8", "int8 8 B, float32 4 B")


def test_a_model_without_tensors_is_an_empty_box(report: Report) -> None:
    assert list(footprints.modules(holding(report.reference))["bytes"]) == [0]


def test_differences_are_shares_of_all_outputs(report: Report) -> None:
    histogram = Histogram(low=-3.0, width=1.0, counts=(0, 2, 6, 0, 0), zeros=2)
    results = (replace(report.results[0], differences=histogram),)
    frame = damage.differences(replace(report, results=results))
    # Bins from 1e-2 to 1e-1 and from 1e-1 to 1, and an empty one on either side.
    assert [round(low, 6) for low in frame["low"]] == [0.001, 0.01, 0.1, 1.0]
    assert list(frame["count"]) == [0, 2, 6, 0]
    assert list(frame["share"]) == [0.0, 0.2, 0.6, 0.0]


def test_differences_that_are_all_zero_have_no_rows(report: Report) -> None:
    histogram = Histogram(low=-3.0, width=1.0, counts=(0, 0), zeros=5)
    results = (replace(report.results[0], differences=histogram),)
    assert damage.differences(replace(report, results=results)).empty


def test_damage_is_read_from_a_metric_that_all_candidates_have(report: Report) -> None:
    assert set(damage.memory_against_damage(report)["metric"]) == {"kl_mean"}
    first = replace(
        report.results[0], fidelity={"mean_abs_logit_diff": report.results[0].fidelity["mean_abs_logit_diff"]}
    )
    mixed = replace(report, results=(first, *report.results[1:]))
    assert set(damage.memory_against_damage(mixed)["metric"]) == {"mean_abs_logit_diff"}


def test_disagreements_name_the_token_that_is_predicted(report: Report) -> None:
    assert report.tokens is not None
    frame = tokens_tables.disagreements(report, "bf16")
    assert list(frame["KL (nat)"]) == sorted(frame["KL (nat)"], reverse=True)
    for row in frame.to_dict("records"):
        assert row["token"] == phrases.visible(report.tokens.pieces[row["token number"] - 1])
        assert row["KL (nat)"] == report.tokens.candidates["bf16"].kl[row["token number"] - 2]
    # Position 0 has no finite value, and the last one predicts a token that is not shown.
    assert len(frame) == len(report.tokens.pieces) - 2
    masked = replace(report, tokens=replace(report.tokens, predicts_next=False))
    assert set(tokens_tables.disagreements(masked, "bf16")["token number"]) == set(
        range(2, len(report.tokens.pieces) + 1)
    )


def test_positions_without_finite_outputs_are_no_disagreements(report: Report) -> None:
    assert report.tokens is not None
    count = len(report.tokens.pieces)
    none, empty = (None,) * count, ((),) * count
    nothing = disagreement(none, none, none, Alternatives(empty, empty))
    known = disagreement((0.5, *none[1:]), (0.1, *none[1:]), none, Alternatives(empty, empty))
    tokens = replace(report.tokens, candidates={"bf16": nothing, "fp16": known})
    found = replace(report, tokens=tokens)
    assert tokens_tables.disagreements(found, "bf16").empty
    (row,) = tokens_tables.disagreements(found, "fp16").to_dict("records")
    assert (row["token number"], row["top-1"], row["candidate expects"]) == (2, "", "")


def test_the_export_has_every_number_once(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(export.export_csv(report).decode())))
    keys = [(row["precision"], row["quantity"]) for row in rows]
    assert len(keys) == len(set(keys))
    found = {(row["precision"], row["quantity"]): row for row in rows}
    for result in report.results:
        for name, estimate in result.fidelity.items():
            assert float(found[result.precision, name]["value"]) == estimate.value
        assert int(found[result.precision, "footprint_bytes"]["value"]) == result.footprint_bytes
    assert {row["model"] for row in rows} == {"pydoc-llama"}
    for column, value in {"torch": "2.13.0+cpu", "device": "cpu", "cpu": "AMD EPYC", "input_tokens": "10"}.items():
        assert {row[column] for row in rows} == {value}
    assert {(row["qfund"], row["input_context"], row["input_sha256"]) for row in rows} == {("0.1.0", "256", "0" * 64)}


def test_the_export_of_tensors_has_all_precisions(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(export.tensors_csv(report).decode())))
    assert {row["precision"] for row in rows} == {"fp32", "bf16", "fp16", "int8"}
    assert {(row["model"], row["created"]) for row in rows} == {("pydoc-llama", report.created)}
    assert len(rows) == sum(len(result.tensors) for result in (report.reference, *report.results))


def test_every_module_is_converted_or_says_why_it_was_left(report: Report) -> None:
    frame = footprints.conversion(report.results[2])
    assert frame.to_dict("split")["data"] == [
        ["lm_head", "left", "Linear", "shares its weight with the embedding"],
        ["model.layers.0.proj", "converted", "", ""],
    ]
    assert footprints.conversion(report.results[0]).empty


def test_a_tensor_says_what_it_is_and_what_it_claims_to_be() -> None:
    (result,) = make_report(Spec("dummy", precisions=("int4_bf16",))).results
    rows = footprints.tensors(result).set_index("name")
    packed = rows.loc["model.layers.0.proj.weight"]
    assert (packed["dtype"], packed["stored in"], packed["reads as"]) == ("int4", "uint8", "bfloat16")
    assert (packed["weights"], packed["bytes"]) == (64, 32)


def test_bits_of_a_weight_are_those_of_a_cast_or_as_counted(report: Report) -> None:
    assert [bits.weight_bits(result) for result in report.results] == [16.0, 16.0, 8.0]
    assert bits.weight_bits(replace(report.results[2], bits_per_weight=8.25)) == 8.25
    assert bits.weight_bits(replace(report.results[0], precision="stored")) is None
    shown = footprints.footprints_text(report)
    assert list(shown[columns.QUANTIZED_BITS]) == ["–", "–", "–", "8"]
    # Of 472 parameters: 1,904, 960, 960 and 1,744 B.
    assert list(shown[columns.MODEL_BITS]) == ["32.27", "16.27", "16.27", "29.56"]
    assert bits.parameter_bits(replace(report, model=replace(report.model, parameters=0)), report.reference) is None


def test_the_time_of_one_pass_stands_only_where_no_other_was_measured(report: Report) -> None:
    assert list(footprints.footprints_text(report)[footprints.ONE_PASS]) == ["100 ms"] * 4
    timed = replace(report.results[0], latency=Estimate(0.5, 0.01, 9, "×"))
    shown = footprints.footprints_text(replace(report, results=(timed, *report.results[1:])))
    assert footprints.ONE_PASS not in shown and shown["Forward ÷ reference's"].iloc[1] == "× 0.500 ± 0.010"


def test_what_was_not_predicted_is_not_filled_in(report: Report) -> None:
    unforeseen = replace(report.results[0], predicted_bytes=None)
    frame = footprints.footprints_text(replace(report, results=(unforeseen, *report.results[1:])))
    assert list(frame["Predicted (B)"]) == ["1,904", "not predicted", "960", "1,744"]


def test_many_candidates_stand_below_each_other(report: Report) -> None:
    beside, below = metrics.metrics_text(report), metrics.metrics_by_precision(report)
    assert list(below["Precision"]) == ["BF16", "FP16", "INT8 weight-only", "FP32 (reference)"]
    assert list(below.columns) == ["Precision", *beside["Metric"]]
    assert list(below["KL divergence, mean (nat)"]) == list(
        beside.set_index("Metric").loc["KL divergence, mean (nat)"][list(below["Precision"])]
    )


def test_the_overview_has_a_row_a_candidate(report: Report) -> None:
    frame = metrics.overview(broken(report, 1))
    assert list(frame.columns) == [
        *("Precision", "KL", "Perplexity ×", "Same top-1", "Memory", "Stored", "Stored (B)"),
        *(columns.QUANTIZED_BITS, columns.MODEL_BITS),
    ]
    assert list(frame["Stored (B)"]) == [960, 960, 1744] and frame[columns.QUANTIZED_BITS].iloc[2] == 8
    assert list(frame["Memory"]) == pytest.approx([100 * 960 / 1904, 100 * 960 / 1904, 100 * 1744 / 1904])
    assert frame["KL"].iloc[0] == report.results[0].fidelity["kl_mean"].value
    assert frame["Perplexity ×"].iloc[1] == "not finite" and pd.isna(frame["KL"].iloc[1])


def test_libraries_stand_beside_qfunds_own(report: Report) -> None:
    run = LibraryRun(
        "torchao",
        "0.17.0",
        "A()",
        footprint_bytes=1000,
        transformers_bytes=3000,
        left_modules=(LeftModule("conv", "Conv1d", "no kernel"),),
        latency=Estimate(1.3, 0.02, 9, "×"),
        max_abs_diff=1.5e-5,
        note="Note.",
    )
    missing = LibraryRun("bitsandbytes", "", "B()", problem="bitsandbytes is not installed.")
    own = replace(report.results[2], latency=Estimate(1.01, 0.02, 9, "×"), libraries=(run, missing))
    report = replace(report, results=(report.results[0], own))
    frame = libraries.libraries(report)
    assert list(frame["library"]) == ["qfund", "qfund", "torchao", "bitsandbytes"]
    assert list(frame["bytes"].iloc[:3]) == [960, 1744, 1000] and pd.isna(frame["bytes"].iloc[3])
    assert list(frame["note"]) == ["", libraries.OWN_RUN, "Note.", ""]  # a cast runs as it is
    shown = libraries.libraries_text(report)
    assert list(shown["Forward ÷ reference's"]) == [
        "not measured here",
        "no measurable difference (× 1.01 ± 0.02)",
        "× 1.30 ± 0.02",
        "not measured here",
    ]
    assert list(shown["Run by"]) == ["qfund 0.1.0", "qfund 0.1.0", "torchao 0.17.0", "bitsandbytes"]
    assert list(shown["transformers (B)"]) == ["960", "1,744", "3,000", "–"]
    assert list(shown["Largest difference"]) == ["–", "–", "1.50e-5", "–"]
    assert list(shown["Converted"]) == ["0", "1", "0", "–"]
    assert libraries.left_by_libraries(report).to_dict("split")["data"] == [
        ["INT8 weight-only", "torchao", "conv", "Conv1d", "no kernel"]
    ]


def test_bits_against_damage_is_of_what_is_no_wider_than_the_reference() -> None:
    frame = damage.bits_against_damage(make_report(Spec("dummy", precisions=("fp64", "bf16", "nf4"))))
    assert list(frame["precision"]) == ["bf16", "nf4"] and list(frame["bits"]) == [16.0, 4.5]


def test_the_export_has_what_quantizing_and_timing_found(report: Report) -> None:
    own = replace(
        report.results[2],
        saturation=Saturation(3, 64, "a"),
        range=Range(3e38, 30.0, "a", 1e37),
        latency=Estimate(1.25, 0.5, 9, "×"),
        libraries=(LibraryRun("torchao", "0.17.0", "A()", 1000, latency=Estimate(0.75, 0.25, 9, "×")),),
    )
    rows = list(csv.DictReader(io.StringIO(export.export_csv(replace(report, results=(own,))).decode())))
    found = {row["quantity"]: (row["value"], row["se"], row["n"]) for row in rows if row["precision"] == "int8"}
    assert float(found["bits_per_parameter"][0]) == pytest.approx(8 * 1744 / 472)
    assert found["bits_per_weight"] == ("8", "", "") or found["bits_per_weight"] == ("8.0", "", "")
    assert found["saturated_weights"] == ("3", "", "64") and float(found["headroom"][0]) == 1e37
    assert found["latency_qfund"] == ("1.25", "0.5", "9") and found["latency_torchao"] == ("0.75", "0.25", "9")
    assert found["torchao_bytes"][0] == "1000"
