"""What a sweep makes of reports: against decisions made by hand, and against Compare's own."""

from dataclasses import replace

import msgspec
import pytest

from qfund.drawing.frames import frame
from qfund.features.compare.request.decision import decide
from qfund.features.compare.request.listing import Saved, condensed
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report, to_json
from qfund.features.compare.request.spec import Spec
from qfund.features.sweep import tables, words
from qfund.features.sweep.request.ranking import Line, Swept, current, lines, ordered, picks
from tests.features.compare.reports import full_report, renamed

LOOSE, TIGHT = Margin(perplexity=0.05, tokens=0.1), Margin(perplexity=1e-7, tokens=1e-7)


def line(model: str, precision: str, size: int, state: str, **more: object) -> Line:
    made = Line(
        key=f"{model} {precision}",
        created="2026-11-28T12:00:00+00:00",
        model=model,
        revision=None,
        content="sha256:1",
        architecture="LlamaForCausalLM",
        parameters=1000,
        text="evaluation text",
        text_id="evaluation text",
        tokens=4096,
        reference="fp32",
        precision=precision,
        also=(),
        bytes=size,
        reference_bytes=4000,
        bits=None,
        state=state,
        finding=None,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_the_smallest_within_the_margin_of_each_model_the_most_saving_first() -> None:
    rows = [
        *(line("a", "bf16", 2000, "indistinguishable"), line("a", "int8", 1100, "within")),
        *(line("a", "int4", 600, "outside"), line("b", "int8", 1000, "within"), line("b", "fp64", 8000, "within")),
        *(
            line("c", "int4", 600, "outside"),
            line("c", "int8", 1000, "inconclusive"),
            line("d", "fp64", 8000, "within"),
        ),
    ]
    found = picks(rows)
    assert [(pick.model, pick.line.precision if pick.line else None) for pick in found] == [
        ("b", "int8"),
        ("a", "int8"),
        ("c", None),
        ("d", None),
    ]
    assert found[2].nearest is not None and found[2].nearest.precision == "int8", "what may still be decided is nearest"
    assert words.headline(found) == (
        "2 of 4 models are smaller within your margin, most of all b: INT8 weight-only, 25 % of FP32's memory."
    )
    assert [row.precision for row in ordered(rows) if row.model == "a"] == ["int8", "bf16", "int4"]


def test_a_candidate_must_do_on_every_text() -> None:
    rows = [
        line("a", "int4", 600, "within"),
        line("a", "int4", 600, "outside", text_id="mine"),
        line("a", "int8", 1100, "within"),
        line("a", "int8", 1100, "within", text_id="mine"),
    ]
    (pick,) = picks(rows)
    assert pick.line is not None and pick.line.precision == "int8" and pick.texts == 2


def test_newer_content_and_more_tokens_replace_what_was_known() -> None:
    old = line("a", "int8", 1100, "within", content="sha256:0", created="2026-11-01T00:00:00+00:00")
    little = line("a", "int4", 600, "inconclusive", tokens=256, created="2026-11-29T00:00:00+00:00")
    much, own = line("a", "int4", 600, "outside"), line("a", "int4", 600, "within", text_id="mine")
    assert current([old, little, much, own]) == [much, own]


@pytest.mark.parametrize("margin", [Margin(), LOOSE, TIGHT, Margin(None, None, 0.01, None)])
def test_a_line_says_what_its_report_does_also_condensed(margin: Margin) -> None:
    report = full_report(Spec("dummy", precisions=("bf16", "int8", "int4", "nf4")))
    for shown in (report, msgspec.json.decode(to_json(condensed(report)), type=Report)):
        found = lines("key", shown, margin)
        assert [row.state for row in found] == [told.state for told in decide(report, margin)]
        assert [row.bytes for row in found] == [result.footprint_bytes for result in report.results]
        for row, told in zip(found, decide(report, margin), strict=True):
            assert (row.finding is None) == (not told.findings)
            assert row.finding is None or row.finding in told.findings


def test_a_condensed_report_is_small_and_keeps_no_text() -> None:
    report = full_report(Spec("dummy", precisions=("bf16", "int8", "int4"), text="secret " * 500))
    small = to_json(condensed(report))
    assert len(small) < len(to_json(report)) / 5 and len(small) < 20_000
    assert small.count(b"secret") <= 12, "an excerpt"
    assert Saved.of("key", report).numbers == condensed(report)


def test_an_older_line_of_a_listing_is_read() -> None:
    written = msgspec.to_builtins(Saved.of("key", full_report()))
    del written["numbers"]
    assert msgspec.convert(written, Saved).numbers is None


def test_tables_have_a_row_for_each_and_numbers_full_digits() -> None:
    report = full_report(Spec("dummy", precisions=("bf16", "int8", "int4")))
    found = Swept.of([*lines("one", report, LOOSE), *lines("two", renamed(report, "a|b"), TIGHT)])
    assert len(tables.picked(found.picks)) == 2 and len(tables.ranked(found.lines)) == 6
    numbers = frame(tables.numbers(found.lines)).set_index(["model", "precision"])
    for decided, margin, model in ((decide(report, LOOSE), 5.0, "dummy"), (decide(report, TIGHT), 1e-5, "a|b")):
        for told in decided:
            row = numbers.loc[(model, told.precision)]
            assert row["verdict"] == told.state
            finding = next(each for each in told.findings if each.metric == row["metric"])
            assert row["damage"] == pytest.approx(100 * finding.estimate.value)
            assert row["low"] == pytest.approx(100 * (finding.estimate.low or 0.0))
            assert row["metric"] != "perplexity_ratio" or row["margin"] == pytest.approx(margin)
    text = tables.document(found)
    assert "| a\\|b |" in text and len({line.count(" | ") for line in text.splitlines() if "evaluation" in line}) == 1
