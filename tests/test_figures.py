"""Figures: one colour for one thing, axes with units, the numbers of the frame, and nothing but the frame."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
import pytest

from qfund import figures, tables, words
from qfund.precisions import PRECISIONS
from qfund.report import Report, TensorRow
from tests.reports import make_report

CONFIG = Path(__file__).parent.parent / ".streamlit/config.toml"


@pytest.fixture
def report() -> Report:
    return make_report()


def every(report: Report) -> dict[str, go.Figure]:
    return {
        "differences": figures.differences(tables.differences(report)),
        "damage": figures.memory_against_damage(tables.memory_against_damage(report), report.reference.footprint_bytes),
        "footprints": figures.footprints(tables.parts(report), tables.footprints(report)),
        "dtypes": figures.dtype_shares(tables.dtypes(report)),
        "modules": figures.modules(tables.modules(report.results[2])),
    }


def test_the_same_report_gives_the_same_figures(report: Report) -> None:
    first = {name: plotly.io.to_json(figure) for name, figure in every(report).items()}
    assert first == {name: plotly.io.to_json(figure) for name, figure in every(make_report()).items()}


def test_figures_have_no_background_and_no_zoom_by_finger(report: Report) -> None:
    for figure in every(report).values():
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.dragmode is False


def test_the_palette_is_the_themes() -> None:
    theme = tomllib.loads(CONFIG.read_text("utf-8"))["theme"]
    assert tuple(theme["chartCategoricalColors"]) == figures.PALETTE
    assert len(set(figures.PALETTE)) == 10  # fewer than ten break Plotly's colours in Streamlit 1.67


def test_a_precision_has_one_colour_everywhere(report: Report) -> None:
    assert len({figures.precision_colour(name) for name in PRECISIONS}) == min(len(PRECISIONS), 10)
    drawn = every(report)
    assert [trace.line.color for trace in drawn["differences"].data] == [
        figures.precision_colour(name) for name in ("bf16", "fp16", "int8")
    ]
    assert list(drawn["footprints"].data[0].marker.color) == [
        figures.precision_colour(name) for name in ("fp32", "bf16", "fp16", "int8")
    ]
    assert figures.precision_colour("no such") == figures.OTHER


def test_a_dtype_has_the_colour_of_the_precision_that_stores_it() -> None:
    assert figures.dtype_colour("bfloat16") == figures.precision_colour("bf16")
    assert figures.dtype_colour("float32") == figures.precision_colour("fp32")
    assert figures.dtype_colour("int8") == figures.precision_colour("int8")
    assert figures.dtype_colour("int64") == figures.OTHER


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
    assert drawn == pytest.approx({tables.label(row.precision): row.footprint_bytes for row in tables.measured(report)})
    predicted = next(trace for trace in figure.data if trace.type == "scatter")
    assert list(predicted.x) == pytest.approx([row.predicted_bytes / 1024 for row in tables.measured(report)])


def test_shares_of_dtypes_fill_each_bar(report: Report) -> None:
    widths: dict[str, float] = {}
    for trace in every(report)["dtypes"].data:
        for label, width in zip(trace.y, trace.x, strict=True):
            widths[label] = widths.get(label, 0.0) + width
    assert widths == pytest.approx(dict.fromkeys(widths, 100.0))


def test_divergence_without_damage_is_drawn_on_a_linear_axis(report: Report) -> None:
    frame = tables.memory_against_damage(report)
    frame["value"] = 0.0
    figure = figures.memory_against_damage(frame, report.reference.footprint_bytes)
    assert figure.layout.yaxis.type == "linear" and figure.layout.yaxis.range[1] == 1
    assert len(figure.data) == len(frame)


def test_a_loss_of_zero_is_kept_off_the_logarithmic_axis_and_said(report: Report) -> None:
    frame = tables.memory_against_damage(report)
    frame.loc[0, "value"] = 0.0
    figure = figures.memory_against_damage(frame, report.reference.footprint_bytes)
    assert figure.layout.yaxis.type == "log" and len(figure.data) == len(frame) - 1
    assert "BF16 has a loss of exactly 0" in words.missing_phrase(report, frame)
    assert "FP16 is not finite" in words.missing_phrase(report, frame[frame["precision"] != "fp16"])


def test_the_axis_of_damage_spans_whole_decades_and_labels_turn_to_the_middle(report: Report) -> None:
    frame = tables.memory_against_damage(report).iloc[:1]
    reference = report.reference.footprint_bytes
    figure = figures.memory_against_damage(frame.assign(value=3e-5, bytes=reference), reference)
    assert list(figure.layout.yaxis.range) == [-5, -4]
    assert figure.data[0].textposition == "middle left"
    assert figures.memory_against_damage(frame, reference).data[0].textposition == "middle right"


def test_patterns_of_bars_are_explained(report: Report) -> None:
    named = [trace.name for trace in every(report)["footprints"].data if trace.showlegend is not False]
    assert named == ["scales", "buffers", "predicted from shapes"]


def test_names_of_tensors_are_text_and_no_markup(report: Report) -> None:
    name = '<a href="http://example.com">x</a>.<b>weight</b>'
    result = replace(report.reference, tensors=(TensorRow(name, (2,), "float32", 8, "weight"),))
    figure = figures.modules(tables.modules(result))
    shown: list[Any] = [*figure.data[0].labels, *(row[0] for row in figure.data[0].customdata)]
    assert not any("<" in text for text in shown)


@pytest.mark.parametrize("count", [3, 900])
def test_large_models_show_their_first_levels(report: Report, count: int) -> None:
    rows = tuple(TensorRow(f"layers.{index}.weight", (1,), "float32", 4, "weight") for index in range(count))
    figure = figures.modules(tables.modules(replace(report.reference, tensors=rows)))
    assert figure.data[0].maxdepth == (-1 if count == 3 else 4)
