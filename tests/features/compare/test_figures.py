"""Figures: one colour for one thing, axes with units, the numbers of the frame, and nothing but the frame."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest

from qfund.core.estimate import Estimate
from qfund.core.tensors import TensorRow
from qfund.drawing import palette, phrases
from qfund.features.compare.figures import damage as damage_figures
from qfund.features.compare.figures import footprints, libraries
from qfund.features.compare.figures import labels as labels_figures
from qfund.features.compare.request import report as report_request
from qfund.features.compare.request.report import LibraryRun, Report
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.tables import damage as damage_tables
from qfund.features.compare.tables import footprints as footprints_tables
from qfund.features.compare.tables import libraries as libraries_tables
from qfund.features.compare.view import choices
from qfund.features.compare.words import damage as damage_words
from qfund.precisions.precision import GGUF, MEANING
from qfund.precisions.table import PRECISIONS
from tests.features.compare.reports import make_report


@pytest.fixture
def report() -> Report:
    return make_report()


def every(report: Report) -> dict[str, go.Figure]:
    return {
        "differences": damage_figures.differences(damage_tables.differences(report)),
        "damage": damage_figures.memory_against_damage(
            damage_tables.memory_against_damage(report), report.reference.footprint_bytes
        ),
        "footprints": footprints.footprints(footprints_tables.parts(report), footprints_tables.footprints(report)),
        "dtypes": footprints.dtype_shares(footprints_tables.dtypes(report)),
        "modules": footprints.modules(footprints_tables.modules(report.results[2])),
    }


def test_the_same_report_gives_the_same_figures(report: Report) -> None:
    first = {name: plotly.io.to_json(figure) for name, figure in every(report).items()}
    assert first == {name: plotly.io.to_json(figure) for name, figure in every(make_report()).items()}


def test_figures_have_no_background_and_no_zoom_by_finger(report: Report) -> None:
    for figure in every(report).values():
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.dragmode is False


def test_a_precision_has_one_color_everywhere(report: Report) -> None:
    assert [palette.precision_color(name) for name in ("fp32", "bf16", "fp16", "int8")] == list(palette.PALETTE[:4])
    files = {palette.precision_color(f"file:model-{number}.gguf") for number in range(64)}
    assert len(files) == 10 and not files & {palette.precision_color(name) for name in PRECISIONS}
    drawn_alike = {(palette.precision_color(name), palette.is_variant(name)) for name in PRECISIONS}
    assert len(drawn_alike) == len(PRECISIONS), "a variant has its row's colour, and an open mark"
    drawn = every(report)
    assert [trace.line.color for trace in drawn["differences"].data] == [
        palette.precision_color(name) for name in ("bf16", "fp16", "int8")
    ]
    assert list(drawn["footprints"].data[0].marker.color) == [
        palette.precision_color(name) for name in ("fp32", "bf16", "fp16", "int8")
    ]
    assert palette.precision_color("no such") == palette.OTHER


@pytest.mark.parametrize("preset", list(choices.PRESETS))
def test_what_is_compared_together_has_different_colors(preset: str) -> None:
    names = choices.PRESETS[preset]
    assert len({(palette.precision_color(name), palette.is_variant(name)) for name in names}) == len(names)


def test_many_candidates_are_rows_of_a_heat_map() -> None:
    names = tuple(name for name in PRECISIONS if name not in ("fp32", "stored", "tf32"))
    drawn = every(make_report(Spec("dummy", precisions=names)))
    (heat,) = drawn["differences"].data
    assert heat.type == "heatmap" and list(heat.y) == [PRECISIONS[name].label for name in names]
    shares = damage_tables.differences(make_report(Spec("dummy", precisions=names)))
    assert heat.z.sum(axis=1) == pytest.approx(100 * shares.groupby("label", sort=False)["share"].sum())
    assert drawn["footprints"].layout.height < 46 * len(names)
    damage = drawn["damage"]
    frontier, *families = damage.data
    assert frontier.name == "nothing is both smaller and closer"
    assert [trace.name for trace in families] == ["float cast", "integer", "float quantised", "codebook", MEANING, GGUF]
    assert [trace.marker.color for trace in families] == [palette.family_color(trace.name) for trace in families]
    assert sum(len(trace.x) for trace in families) == len(names) - 1, "all but FP64"
    named = [text for trace in families for text in trace.text if text]
    assert 0 < len(named) < len(names), "labels that would stand on each other are left out"
    many = make_report(Spec("dummy", precisions=names))
    assert damage_words.missing_phrase(many, damage_tables.memory_against_damage(many)) == (
        "FP64 takes more memory than the reference and would be far to the right."
    )


def damages(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"precision": name, "label": name, "family": PRECISIONS[name].family, "bits": bits, "bytes": 8, "value": kl}
            for name, bits, kl in rows
        ]
    )


def test_the_line_joins_what_nothing_beats_on_both() -> None:
    frame = damages(("bf16", 16, 1e-4), ("fp16", 16, 1e-6), ("int8", 8.1, 1e-5), ("nf4", 4.5, 1e-2), ("fp4", 4.5, 2e-2))
    figure = damage_figures.bits_against_damage(frame)
    assert list(zip(figure.data[0].x, figure.data[0].y, strict=True)) == [(4.5, 1e-2), (8.1, 1e-5), (16, 1e-6)]
    assert sum(len(trace.x) for trace in figure.data[1:]) == len(frame)
    assert {trace.name for trace in figure.data[1:]} == {"float cast", "integer", "codebook"}
    labels = {
        text: place for trace in figure.data[1:] for text, place in zip(trace.text, trace.textposition, strict=True)
    }
    assert all(labels), "there is room for each"


def test_labels_stand_on_no_mark_and_on_no_label_and_the_frontiers_come_first() -> None:
    crowd = [name for name in PRECISIONS if name not in ("bf16", "int2_bf16")][:30]
    rows = [(name, 4 + 0.05 * place, 1e-2 * 1.02**place) for place, name in enumerate(crowd)]
    frame = damages(*rows, ("int2_bf16", 2.0, 1.0), ("bf16", 16.0, 1e-6))
    x, y = 50 * frame["bits"], 50 * (frame["value"].map(math.log10) + 7)
    named = labels_figures.name_places(frame, "bits", x, y, (900, 360))
    assert {"int2_bf16", crowd[0], "bf16"} <= set(named), "these nothing beats on both"
    assert 3 < len(named) < len(frame)
    boxes = [
        labels_figures.label_box(named[name], (across, up), labels_figures.CHARACTER * len(name))
        for name, across, up in zip(frame["precision"], x, y, strict=True)
        if name in named
    ]
    for place, box in enumerate(boxes):
        assert box[0] >= 0 and box[2] <= 900
        assert not any(box[0] < across < box[2] and box[1] < up < box[3] for across, up in zip(x, y, strict=True))
        assert not any(labels_figures.overlap(box, other) for other in boxes[:place])


def test_a_variant_on_another_base_has_an_open_mark() -> None:
    figure = damage_figures.bits_against_damage(damages(("int8", 8.1, 1e-5), ("int8_bf16", 8.1, 1e-4)))
    assert list(figure.data[1].marker.symbol) == ["circle", "circle-open"]


def test_times_stand_beside_a_line_at_one(report: Report) -> None:
    run = LibraryRun("torchao", "0.17.0", "A()", latency=Estimate(0.8, 0.02, 9, "×"))
    missing = LibraryRun("bitsandbytes", "", "B()", problem="not installed")
    own = replace(report.results[2], latency=Estimate(1.3, 0.1, 9, "×"), libraries=(run, missing))
    figure = libraries.latency(libraries_tables.libraries(replace(report, results=(own,))))
    (bars,) = figure.data
    assert list(bars.y) == ["INT8 weight-only · qfund", "INT8 weight-only · torchao"]
    assert list(bars.x) == [1.3, 0.8] and list(bars.error_x.array) == [0.1, 0.02]
    assert list(bars.marker.color) == [palette.OTHER, palette.precision_color("int8")]
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 1


def test_what_was_not_predicted_has_no_mark(report: Report) -> None:
    unforeseen = replace(report.results[0], predicted_bytes=None)
    figure = every(replace(report, results=(unforeseen, *report.results[1:])))["footprints"]
    predicted = next(trace for trace in figure.data if trace.type == "scatter")
    assert math.isnan(predicted.x[1]) and predicted.customdata[1] == "not predicted"
    assert figure.layout.annotations[1].text == " 960 B"


def test_axes_have_units(report: Report) -> None:
    drawn = every(report)
    titles = {name: (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) for name, figure in drawn.items()}
    assert titles["differences"] == ("|logit difference|", "share of all outputs (%)")
    assert titles["damage"] == ("footprint (KiB)", "KL divergence, mean (nat)")
    assert titles["footprints"][0] == "footprint (KiB)"
    assert titles["dtypes"][0] == "share of stored bytes (%)"


def test_bars_hold_the_bytes(report: Report) -> None:
    figure = every(report)["footprints"]
    bars = [trace for trace in figure.data if trace.type == "bar"]
    drawn = dict.fromkeys(bars[0].y, 0.0)
    for trace in bars:
        for label, length in zip(trace.y, trace.x, strict=True):
            drawn[label] += length * 1024
    assert drawn == pytest.approx(
        {phrases.label(row.precision): row.footprint_bytes for row in report_request.measured(report)}
    )
    predicted = next(trace for trace in figure.data if trace.type == "scatter")
    assert list(predicted.x) == pytest.approx([row.footprint_bytes / 1024 for row in report_request.measured(report)])


def test_shares_of_dtypes_fill_each_bar(report: Report) -> None:
    widths: dict[str, float] = {}
    for trace in every(report)["dtypes"].data:
        for label, width in zip(trace.y, trace.x, strict=True):
            widths[label] = widths.get(label, 0.0) + width
    assert widths == pytest.approx(dict.fromkeys(widths, 100.0))


def test_divergence_without_damage_is_drawn_on_a_linear_axis(report: Report) -> None:
    frame = damage_tables.memory_against_damage(report)
    frame["value"] = 0.0
    figure = damage_figures.memory_against_damage(frame, report.reference.footprint_bytes)
    assert figure.layout.yaxis.type == "linear" and figure.layout.yaxis.range[1] == 1
    assert len(figure.data) == len(frame)


def test_a_loss_of_zero_is_kept_off_the_logarithmic_axis_and_said(report: Report) -> None:
    frame = damage_tables.memory_against_damage(report)
    frame.loc[0, "value"] = 0.0
    figure = damage_figures.memory_against_damage(frame, report.reference.footprint_bytes)
    assert figure.layout.yaxis.type == "log" and len(figure.data) == len(frame) - 1
    assert "BF16 has a loss of exactly 0" in damage_words.missing_phrase(report, frame)
    assert "FP16 is not finite" in damage_words.missing_phrase(report, frame[frame["precision"] != "fp16"])


def test_the_axis_of_damage_spans_whole_decades_and_labels_turn_to_the_middle(report: Report) -> None:
    frame = damage_tables.memory_against_damage(report).iloc[:1]
    reference = report.reference.footprint_bytes
    figure = damage_figures.memory_against_damage(frame.assign(value=3e-5, bytes=reference), reference)
    assert list(figure.layout.yaxis.range) == [-5, -4]
    assert figure.data[0].textposition == "middle left"
    assert damage_figures.memory_against_damage(frame, reference).data[0].textposition == "middle right"


def test_patterns_of_bars_are_explained(report: Report) -> None:
    named = [trace.name for trace in every(report)["footprints"].data if trace.showlegend is not False]
    assert named == ["scales", "buffers", "predicted from shapes"]


def test_names_of_tensors_are_text_and_no_markup(report: Report) -> None:
    name = '<a href="http://example.com">x</a>.<b>weight</b>'
    result = replace(report.reference, tensors=(TensorRow(name, (2,), *("float32",) * 3, 2, 8, "weight"),))
    figure = footprints.modules(footprints_tables.modules(result))
    shown: list[Any] = [*figure.data[0].labels, *(row[0] for row in figure.data[0].customdata)]
    assert not any("<" in text for text in shown)


@pytest.mark.parametrize("count", [3, 900])
def test_large_models_show_their_first_levels(report: Report, count: int) -> None:
    rows = tuple(TensorRow(f"layers.{index}.weight", (1,), *("float32",) * 3, 1, 4, "weight") for index in range(count))
    figure = footprints.modules(footprints_tables.modules(replace(report.reference, tensors=rows)))
    assert figure.data[0].maxdepth == (-1 if count == 3 else 4)
