"""Plans, fits and load peaks as frames, figures and sentences; every number of ``plans`` is computed by hand."""

from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from qfund.features.memory import figures as memory_figures
from qfund.features.memory import tables as memory_tables
from qfund.features.memory import words
from qfund.features.memory.request.load_peak import LoadPeakRequest
from qfund.features.memory.request.sizing import rows
from tests.features.memory.plans import BUFFERS, FORWARD, GIB, HEADERS, PLAN, SHAPE, STORED, WEIGHTS, make_peaks

PEAKS = make_peaks(LoadPeakRequest("pydoc-llama", ("bf16",)))


def pieces(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    return [(row["kind"], row["label"], row["end"] - row["start"]) for row in frame.to_dict("records")]


def test_a_cast_is_explained_from_the_file_to_the_peak() -> None:
    found = memory_tables.steps(PLAN, HEADERS, "bf16", {"bf16": 2460}, PEAKS)
    assert pieces(found) == [
        ("total", "stored on disk", 5640),
        ("step", "stored tensors as BF16", -2820),
        ("total", "headers alone", 2820),
        ("step", "tied head, counted once", -400),
        ("step", "buffers", 40),
        ("total", "predicted", 2460),
        ("total", "measured, counted in the model", 2460),
        ("step", "Python and torch beside it", 40),
        ("step", "only while loading", 100),
        ("total", "load peak (need)", 2600),
        ("step", "mapped file pages, given back under pressure", 4400),
        ("total", "resident peak (RSS)", 7000),
        ("step", "given back once loaded", -4500),
        ("step", "set up by libraries, kept after a first forward", 70),
        ("step", "activations of a forward of 128 tokens", 330),
        ("total", "inference peak (need)", 2900),
    ]
    assert "activations of a forward of 128 tokens: +330 B" in words.differences(found)


def test_codes_are_explained_part_by_part_to_the_byte() -> None:
    found = memory_tables.steps(PLAN, HEADERS, "int8_bf16", {}, None)
    assert pieces(found) == [
        ("total", "stored on disk", 5640),
        ("step", "weights as 8-bit codes", 1000),
        ("step", "embeddings with the tied head, left in BF16", 400),
        ("step", "buffers", 40),
        ("step", "norms", 20),
        ("step", "scales and zero-points", 16),
        ("total", "predicted", 1476),
    ]
    assert words.differences(found).startswith(
        "weights as 8-bit codes: +1000 B; embeddings with the tied head, left in BF16: +400 B; buffers: +40 B"
    )


@pytest.mark.parametrize("name", ["fp32", "bf16", "int8_bf16"])
@pytest.mark.parametrize("measured", [None, 2000, 9000])
def test_steps_lead_from_each_size_to_the_next(name: str, measured: int | None) -> None:
    counted = {} if measured is None else {name: measured}
    found = memory_tables.steps(PLAN, HEADERS, name, counted, PEAKS).to_dict("records")
    for before, after in pairwise(found[1:]):
        if after["kind"] == "step":
            assert after["start"] == before["end"], after
        else:
            assert after["end"] == before["end"], after


def test_what_headers_cannot_tell_is_one_piece() -> None:
    """A stored buffer is in the estimate too; no number is made up for either."""
    wider = replace(HEADERS, cast_bytes={"bf16": STORED // 2 + 100})
    found = pieces(memory_tables.steps(PLAN, wider, "bf16", {}, None))
    assert ("step", "buffers, and tensors dropped, made anew or kept wider", -60) in found
    assert ("step", "buffers", 40) not in found


def test_rss_below_need_is_said_the_other_way_round() -> None:
    found = pieces(memory_tables.steps(PLAN, HEADERS, "fp32", {}, PEAKS))
    assert ("step", "weights in the file, not read until used", 1210 - 4840) in found
    assert found[-1] == ("total", "resident peak (RSS)", 1210), "no forward was measured"
    ran = replace(PEAKS, reference=replace(PEAKS.reference, inference=replace(FORWARD, need=5240)))
    found = pieces(memory_tables.steps(PLAN, HEADERS, "fp32", {}, ran))
    assert found[-4:] == [
        ("step", "weights in the file, needed once loaded", 4840 - 1210),
        ("step", "set up by libraries, kept after a first forward", 70),
        ("step", "activations of a forward of 128 tokens", 330),
        ("total", "inference peak (need)", 5240),
    ]


@pytest.mark.parametrize(
    ("tokens", "pictures", "said"),
    [(512, 0, "512 tokens"), (1, 0, "1 token"), (0, 1, "1 picture"), (77, 1, "1 picture and 77 tokens")],
)
def test_what_a_forward_read_is_said(tokens: int, pictures: int, said: str) -> None:
    assert replace(FORWARD, tokens=tokens, pictures=pictures).read == said


def test_the_best_way_needs_least_and_is_no_library_s() -> None:
    best = memory_tables.best_way(PEAKS, "bf16")
    assert best is not None and best.way == "direct"
    assert memory_tables.best_way(PEAKS, "int8") is None and memory_tables.best_way(None, "bf16") is None


def test_sizes_have_no_number_where_nothing_was_measured() -> None:
    found = memory_tables.sizes(PLAN, HEADERS, {"bf16": 2460}, {"bf16": PEAKS}, ("bf16", "int8_bf16"))
    assert list(found["predicted"]) == [2460, 1476]
    assert found["need"].iloc[0] == 2600 and found[["estimate", "measured", "need", "rss"]].iloc[1].isna().all()
    shown = memory_tables.sizes_text(found)
    assert list(shown["Load peak (B)"]) == ["2,600", "not measured yet"]
    assert list(shown["Inference peak (B)"]) == ["2,900", "not measured yet"]
    assert list(shown["Headers, estimate (B)"]) == ["2,820", "–"]


def test_what_fits_is_split_and_sums_to_the_total() -> None:
    workload = replace(GIB, context=10, batch=3)
    found = rows(SHAPE, WEIGHTS, workload)
    frame = memory_tables.fits(found, WEIGHTS)
    sums = frame.groupby("precision")["bytes"].sum()
    assert {row.precision: row.total.bytes for row in found} == dict(sums)
    bf16 = frame[frame["precision"] == "bf16"].set_index("part")
    # 3 sequences × 10 tokens × 2 layers × 16 elements × 2 bytes; 50 bytes a token.
    assert bf16.loc["KV cache", "bytes"] == 1920 and bf16.loc["activations", "bytes"] == 1500
    assert list(bf16.loc[["weights", "KV cache"], "how"]) == ["exact", "exact"]
    assert list(bf16.loc[["activations", "runtime"], "how"]) == ["estimate", "estimate"]
    assert bf16.loc["buffers", "bytes"] == BUFFERS


def test_estimates_are_hatched_and_the_budget_is_a_line() -> None:
    found = rows(SHAPE, WEIGHTS, GIB)
    figure = memory_figures.fits(memory_tables.fits(found, WEIGHTS), GIB.budget, "bf16")
    hatched = {bar.name for bar in figure.data if bar.marker.pattern.shape}
    assert hatched == {"activations (estimate)", "runtime (estimate)"}
    assert figure.layout.shapes[0].x0 == 1  # GiB
    assert figure.layout.xaxis.title.text == "GiB · dashed: the budget, 1 GiB"
    assert "<b>BF16</b>" in figure.layout.yaxis.ticktext[1] and "best" in figure.layout.yaxis.ticktext[1]


def test_a_budget_far_away_does_not_flatten_the_bars() -> None:
    figure = memory_figures.fits(memory_tables.fits(rows(SHAPE, WEIGHTS, GIB), WEIGHTS), 2**40)
    assert not figure.layout.shapes and "1 TiB, is far to the right" in figure.layout.xaxis.title.text


def test_too_much_is_said_at_the_bar() -> None:
    figure = memory_figures.fits(memory_tables.fits(rows(SHAPE, WEIGHTS, GIB), WEIGHTS), 2**20)
    assert all("too much" in text for text in figure.layout.yaxis.ticktext)


def test_sizes_are_bars_with_marks() -> None:
    frame = memory_tables.sizes(PLAN, HEADERS, {"bf16": 2460}, {"bf16": PEAKS}, ("bf16", "int8_bf16"))
    figure = memory_figures.sizes(frame, STORED)
    assert [trace.name for trace in figure.data] == [
        "predicted",
        "from headers (estimate)",
        "measured, counted",
        "load peak (need)",
        "resident peak (RSS)",
        "inference peak (need)",
    ]
    assert list(figure.data[-1].x) == [2900 / 1024]
    assert list(figure.data[0].x) == pytest.approx([2460 / 1024, 1476 / 1024])


def test_the_waterfall_has_a_bar_for_every_step() -> None:
    frame = memory_tables.steps(PLAN, HEADERS, "bf16", {"bf16": 2460}, PEAKS)
    figure = memory_figures.steps(frame, "bf16")
    assert len(figure.data) == len(frame)
    assert [bar.x[0] * 1024 for bar in figure.data][1] == -2820
    assert figure.data[2].marker.pattern.shape, "what headers say is an estimate"
    assert any("−400 B" in note.text for note in figure.layout.annotations)
    assert "activations<br>of a forward of 128 tokens" in figure.layout.yaxis.ticktext


def test_a_load_shows_its_peak_in_multiples_of_the_weights() -> None:
    curves, phases = memory_tables.curves(PEAKS, "bf16"), memory_tables.phases(PEAKS, "bf16")
    assert list(dict.fromkeys(curves["way"])) == ["cast", "direct"]
    direct = curves[curves["way"] == "direct"]
    figure = memory_figures.load(direct, phases[phases["way"] == "direct"], PEAKS.weights_bytes, 7000)
    assert any("0.54 W" in note.text for note in figure.layout.annotations)  # 2600 / 4840
    assert (figure.layout.shapes[0].x0, figure.layout.shapes[0].x1) == (0.02, 0.1)


def test_every_way_is_a_row_and_what_failed_says_why() -> None:
    found = memory_tables.loads(PEAKS)
    assert len(found) == 4 and list(found["Need"])[-1] == "not measured" and list(found["Note"])[-1] == "It died."
    assert "GPU" not in found
    assert found["Inference (W)"].dropna().to_list() == [2900 / 4840]
    without = replace(PEAKS, ways=tuple(replace(one, inference=None) for one in PEAKS.ways))
    assert "Inference (W)" not in memory_tables.loads(without)


def test_modules_of_a_plan_sum_to_its_bytes() -> None:
    found = memory_tables.modules(PLAN, "int8_bf16").set_index("name")
    assert found.loc["model", "bytes"].max() == 1476
    assert found.loc["model.layers.0.proj", "dtypes"] == "most of it int8"
    assert "lm_head" not in found.index, "a tied head takes nothing"


def test_entries_are_in_numbers_without_empty_columns() -> None:
    found = memory_tables.entries(PLAN, ("bf16", "int8_bf16"))
    assert list(found["Bits per quantised weight"]) == [16.0, 8 * 1016 / 1000]
    assert "Head (B)" not in found and list(found["Scales (B)"]) == [0, 16]
    assert b"headers:1,int8_bf16,all,1476" in memory_tables.plan_csv(PLAN)


def test_agreement_is_claimed_only_where_there_is_one() -> None:
    assert "Not measured yet" in words.agreement({}, PLAN)
    assert "agree to the byte in the one precision" in words.agreement({"bf16": 2460}, PLAN)
    assert "In 1 of 2 precisions" in words.agreement({"bf16": 2461, "fp32": 4880}, PLAN)


@pytest.mark.parametrize(("count", "said"), [(999, "999"), (4_066_560, "4.07 M"), (70_553_706_496, "70.6 B")])
def test_counts_as_people_say_them(count: int, said: str) -> None:
    assert words.count_text(count) == said
