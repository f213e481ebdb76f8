"""Frames, figures and sentences about how sure a report is: what is noise, intervals, tails, buckets, blocks, pairs."""

import math
from dataclasses import replace

import pandas as pd
import plotly.io
import pytest

from qfund.core.estimate import Estimate
from qfund.core.metrics.estimates import CONFIDENCES, PERCENTILES
from qfund.core.metrics.table import METRICS
from qfund.drawing import numbers, palette
from qfund.features.compare.figures import damage as damage_figures
from qfund.features.compare.figures import statistics as statistics_figures
from qfund.features.compare.request import noise_floor, pairs
from qfund.features.compare.request.report import HiddenError, NoiseRun, Report
from qfund.features.compare.request.simultaneous import simultaneous
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.tables import damage, metrics
from qfund.features.compare.tables import statistics as statistics_tables
from qfund.features.compare.words import damage as damage_words
from qfund.features.compare.words import statistics
from qfund.precisions.table import PRECISIONS
from tests.features.compare.reports import full_report, make_report

MANY = Spec("dummy", precisions=tuple(name for name in PRECISIONS if name not in ("fp32", "stored", "tf32")))


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


def drifted(report: Report) -> str:
    return statistics.drift(report, statistics_tables.drift(report, "relative L2"), "relative L2")


def noisy(report: Report, **values: float) -> Report:
    fidelity = {name: Estimate(value, None, 9, METRICS[name].unit) for name, value in values.items()}
    return replace(report, noise=(NoiseRun("threads", "one thread", 9, fidelity),))


def test_a_metric_within_the_noise_floor_is_said_to_show_nothing(report: Report) -> None:
    kl = simultaneous(report, report.results[0])["kl_mean"]
    assert kl.low is not None and kl.high is not None
    for floor, below in ((kl.low * 1.01, False), (kl.high * 0.99, False), (kl.high * 1.01, True)):
        told = noisy(report, kl_mean=floor)
        assert noise_floor.below_floor(kl, "kl_mean", noise_floor.noise_floor(told)) is below
        cell = metrics.metrics_text(told).set_index("Metric").loc["KL divergence, mean (nat)"]
        assert ("no measurable difference" in cell["BF16"]) is below
        assert float(cell["Noise floor"]) == pytest.approx(floor, rel=0.01)
        assert "Every candidate is above" not in statistics.noise(told)
    assert "Every candidate is above" in statistics.noise(noisy(report, kl_mean=kl.low * 1e-9))
    # An interval that only reaches no damage says nothing yet, and nothing is said without a floor.
    share = Estimate(0.9624, 0.01, 500, "share", 0.91, 1.0, 10)
    assert not noise_floor.below_floor(share, "top1_agreement", {"top1_agreement": 0.0})
    assert not noise_floor.below_floor(kl, "kl_mean", {})


def test_float64_is_no_noise(report: Report) -> None:
    exact = replace(report, noise=tuple(run for run in report.noise if run.name == "fp64"))
    assert "Noise floor" not in metrics.metrics_text(exact).columns
    assert "noise floor is" not in statistics.noise(exact) and "float64" in statistics.noise(exact)


def test_every_metric_stands_beside_its_floor(report: Report) -> None:
    frame = metrics.metrics_text(report)
    measured = [name for name in METRICS if any(name in result.fidelity for result in report.results)]
    assert list(frame["Metric"]) == [numbers.heading(name) for name in measured]
    told = dict(zip(measured, frame["Noise floor"], strict=True))
    assert {name for name, floor in told.items() if floor == "–"} == {"perplexity", "nll_mean"}
    assert list(metrics.metrics_by_precision(report)["Precision"])[:3] == ["BF16", "FP16", "INT8 weight-only"]


def test_percentiles_are_told_as_they_were_measured(report: Report) -> None:
    frame = statistics_tables.percentiles(report, "kl")
    assert list(frame[frame["precision"] == "int8"]["value"]) == list(report.results[2].percentiles["kl"])
    text = statistics_tables.percentiles_text(report)
    assert len(text) == 3 * len(report.results)
    assert list(text.columns)[2:] == [statistics_tables.percentile_name(share) for share in PERCENTILES]
    assert (
        statistics_tables.percentiles(make_report(), "kl").empty
        and statistics_tables.percentiles_text(make_report()).empty
    )


def shifted(report: Report, low: float, high: float) -> Report:
    """With Δp from ``low`` at 1 % to ``high`` at 99 %, and half of that at 5 % and 95 %."""
    known = {0.01: low, 0.05: low / 2, 0.95: high / 2, 0.99: high, 0.0: 2 * low, 1.0: 2 * high}
    values = tuple(known.get(share, 0.0) for share in PERCENTILES)
    result = replace(report.results[0], percentiles={"delta_p": values})
    return replace(report, results=(result,))


@pytest.mark.parametrize(
    ("low", "high", "heavier", "said"),
    [
        (-0.01, 0.01, "neither", "BF16 has tails about alike"),
        (-0.02, 0.01, "loss", "which is what damage looks like"),
        (-0.01, 0.02, "gain", "the heavier tail at gains"),
        (-0.02, 0.0, "loss", "damage"),
        (0.0, 0.0, "neither", "about alike"),
    ],
)
def test_a_heavier_negative_tail_is_called_damage(
    report: Report, low: float, high: float, heavier: str, said: str
) -> None:
    frame = statistics_tables.tails(shifted(report, low, high))
    assert list(frame["heavier"]) == [heavier]
    assert (frame["loss"].iloc[0], frame["gain"].iloc[0]) == (-low, high)
    assert said in statistics.tails(frame)
    plotly.io.to_json(statistics_figures.tails(frame))


def test_tails_that_disagree_are_called_neither_noise_nor_damage(report: Report) -> None:
    at = {0.01: -0.043, 0.05: -0.02, 0.95: 0.019, 0.99: 0.036}
    values = tuple(at.get(share, 0.0) for share in PERCENTILES)
    result = replace(report.results[0], percentiles={"delta_p": values})
    frame = statistics_tables.tails(replace(report, results=(result,)))
    assert list(frame["heavier"]) == ["unclear"]
    assert "noise" not in statistics.tails(frame) and "tells neither" in statistics.tails(frame)


def test_buckets_have_their_interval(report: Report) -> None:
    frame = statistics_tables.buckets(report)
    assert len(set(frame["bucket"])) == len(CONFIDENCES) - 1
    one = frame[(frame["precision"] == "bf16") & (frame["metric"] == "kl_mean")].iloc[0]
    estimate = report.results[0].buckets[0].estimates["kl_mean"]
    assert (one["value"], one["low"], one["high"], one["n"]) == (
        *(estimate.value, estimate.low, estimate.high),
        estimate.n,
    )


def test_drift_is_told_in_three_ways_and_breaks_where_it_breaks(report: Report) -> None:
    errors = (
        HiddenError("a", 0.0, 1.0, None),
        HiddenError("b", 0.1, 0.99, 20.0, 3),
        HiddenError("<c>", 0.2, 0.5, 14.0, 4),
    )
    one = replace(report, results=(replace(report.results[0], drift=errors),))
    values = {which: list(statistics_tables.drift(one, which)["value"]) for which in statistics_tables.DRIFTS}
    assert math.isnan(values["relative L2"][0]) and values["relative L2"][1:] == [0.1, 0.2]
    assert math.isnan(values["SQNR"][0]) and values["SQNR"][1:] == [20.0, 14.0]
    assert math.isnan(values["1 − cosine"][0]) and values["1 − cosine"][1:] == pytest.approx([0.01, 0.5])
    frame = statistics_tables.drift(one, "SQNR")
    assert list(frame["broken"]) == [False, True, False]
    line, cross = statistics_figures.drift(frame, "SQNR").data
    assert list(line.x) == [1, 2, 3] and list(cross.x) == [2] and list(cross.y) == [20.0]
    assert line.customdata[2][0] == "&lt;c>", "names of blocks are text"
    assert "BF16 first gives values that are not finite after b." in statistics.drift(one, frame, "SQNR")


def test_a_break_where_nothing_was_measured_is_drawn_where_the_line_ended(report: Report) -> None:
    errors = (HiddenError("a", 0.1, 0.9, 20.0), HiddenError("b", math.nan, math.nan, None, 99))
    frame = statistics_tables.drift(replace(report, results=(replace(report.results[0], drift=errors),)), "relative L2")
    assert list(statistics_figures.drift(frame, "relative L2").data[-1].y) == [0.1]


def test_outputs_that_are_equal_everywhere_are_said_to_be(report: Report) -> None:
    equal = replace(report.results[0], drift=(HiddenError("a", 0.0, 1.0, None),))
    assert "BF16 differs nowhere" in drifted(replace(report, results=(equal,)))


def test_two_candidates_are_told_apart_only_where_the_interval_allows(report: Report) -> None:
    found = {
        "kl_mean": Estimate(1e-4, 1e-5, 99, "nat", 0.5e-4, 1.5e-4, 9),
        "top1_agreement": Estimate(0.01, 0.001, 99, "share", 0.008, 0.012, 9),
        "perplexity_ratio": Estimate(0.99, 0.001, 99, "×", 0.98, 0.995, 9),
        "delta_p_mean": Estimate(0.0, 0.001, 99, "", -0.1, 0.1, 9),
        "nll_mean": Estimate(0.1, 0.001, 99, "nat"),
    }
    said = list(statistics_tables.paired_text(found, "bf16", "int8")[""])
    assert said == [
        "INT8 weight-only is closer to the reference",
        "BF16 is closer to the reference",
        "BF16 reads this text better",
        "not told apart",
        "too few chunks to tell",
    ]


def test_the_pairs_of_a_report_have_a_row_each(report: Report) -> None:
    frame = statistics_tables.paired_text(pairs.paired(report, "bf16", "fp16"), "bf16", "fp16")
    said = frame.set_index("Metric")[""]
    assert said["KL divergence, mean (nat)"] == "FP16 is closer to the reference"


def drawn(report: Report) -> list[str]:
    found = [
        statistics_figures.drift(statistics_tables.drift(report, which), which) for which in statistics_tables.DRIFTS
    ]
    found.append(statistics_figures.percentiles(statistics_tables.percentiles(report, "kl")))
    found.append(statistics_figures.tails(statistics_tables.tails(report)))
    frame = statistics_tables.buckets(report)
    found += [statistics_figures.buckets(frame, metric) for metric in ("kl_mean", "top1_agreement", "perplexity_ratio")]
    for figure in found:
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)" and figure.layout.dragmode is False
    return [plotly.io.to_json(figure) for figure in found]


@pytest.mark.parametrize("spec", [None, MANY])
def test_the_same_report_gives_the_same_figures(spec: Spec | None) -> None:
    found = full_report(spec)
    assert drawn(found) == drawn(found)


def test_many_candidates_share_the_colors_of_their_families() -> None:
    figure = statistics_figures.percentiles(statistics_tables.percentiles(full_report(MANY), "kl"))
    named = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert sorted(named) == sorted(set(named)), "one entry a family"
    assert {trace.line.color for trace in figure.data} <= set(palette.PALETTE)


def test_the_noise_floor_is_drawn_only_near_the_candidates(report: Report) -> None:
    frame = damage.memory_against_damage(report)
    least = float(frame["value"].min())
    for floor, shown in ((least / 10, 1), (least / 1e6, 0), (None, 0)):
        figure = damage_figures.memory_against_damage(frame, report.reference.footprint_bytes, floor)
        assert sum(shape.type == "rect" for shape in figure.layout.shapes) == shown
    assert "is far below" in damage_words.noise_band(least / 1e6, False)
    bf16 = next(trace for trace in figure.data if trace.text == ("BF16",))
    estimate = report.results[0].fidelity["kl_mean"]
    assert estimate.high is not None
    assert bf16.error_y.array[0] == pytest.approx(estimate.high - estimate.value)
    assert isinstance(frame, pd.DataFrame) and {"low", "high"} <= set(frame.columns)


def test_the_reference_against_itself_is_told_to_the_last_digit(report: Report) -> None:
    (row,) = statistics_tables.noise(noisy(report, kl_mean=0.0, perplexity_ratio=1 + 2e-9)).to_dict("records")
    assert row["KL divergence, mean (nat)"] == "0" and row["Perplexity ratio (×)"] == "1 + 2.00e-9"
    (row,) = statistics_tables.noise(noisy(report, perplexity_ratio=1.0)).to_dict("records")
    assert row["Perplexity ratio (×)"] == "1"
