"""Precisions and caches in one comparison: one walk, the figures of the page KV cache, links, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from qfund import cli
from qfund.core.errors import InvalidSpec, UnknownName, UnsupportedModel
from qfund.engine import key_of
from qfund.engine.store import Store
from qfund.features.compare.figures.together import frontier
from qfund.features.compare.link import SECTIONS
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import invariants, together
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.link import from_query, to_query
from qfund.features.compare.request.ranking import ranked
from qfund.features.compare.request.report import Report, from_json, result_of, to_json
from qfund.features.compare.request.spec import Spec, checked
from qfund.features.compare.tables import damage
from qfund.features.compare.tables.ranking import ranking
from qfund.features.compare.words import calls, candidates
from qfund.features.compare.words.together import sentence
from qfund.features.kv.measure.kv import kv
from qfund.features.kv.request import KvRequest
from qfund.features.memory.measure.fits import fits
from qfund.features.memory.request import sizing
from qfund.features.memory.request.fits import FitsRequest, Workload
from qfund.precisions.caches import keeping, kv_of, weights_of, with_cache
from qfund.precisions.files import label_of
from tests.features.compare.pages import COMPARE, FakeJobs, board, section
from tests.tiny import checkpoints
from tests.ui.pages import Open

MODEL, TEXT = "pydoc-llama", checkpoints.TEXT * 2
KEPT = "q4_0:first4:window32"
CACHES = ("q8_0", "int4_kivi", "fp8", "q8_0/q4_0", KEPT)
#: Two chunks a batch, so that scales of one text's cache are none of another's.
ASKED = Spec(MODEL, "fp32", ("int4",), text=TEXT, context=64, max_tokens=128, kv=CACHES)


@pytest.fixture(scope="module")
def found() -> Report:
    return compare(ASKED)


def test_every_candidate_and_the_reference_has_a_row_for_each_cache(found: Report) -> None:
    names = ["int4", *(with_cache(name, cache) for cache in CACHES for name in ("fp32", "int4"))]
    assert [row.precision for row in found.results] == names == list(found.spec.candidates)
    assert found.whole is None and not found.refused
    assert (
        label_of("int4+kv:q8_0") == "INT4 g32, KV q8_0" and label_of("int4+kv:q8_0/q4_0") == "INT4 g32, K q8_0, V q4_0"
    )
    assert all(with_cache(weights_of(name), str(kv_of(name))) == name for name in names[1:])


def test_rows_of_the_reference_are_those_of_the_page_kv_cache(found: Report) -> None:
    """Which reads each chunk by itself, and a window in turns, with the cache really kept."""
    alone = kv(KvRequest(MODEL, CACHES, text=TEXT, context=64, max_tokens=128))
    for row in alone.rows:
        beside = result_of(found, with_cache("fp32", row.kv))
        assert row.kl is not None and beside.cache is not None
        assert beside.fidelity["kl_mean"].value == pytest.approx(row.kl.value, rel=1e-4), row.kv
        assert beside.cache.bytes == row.bytes and beside.cache.tokens == alone.tokens
        assert beside.cache.computed == alone.reference_bytes


def test_tokens_that_stay_as_computed(found: Report) -> None:
    """A name says what ``first`` and ``window`` of the page KV cache say for all rows; more of them are nearer to what
    is computed, in more bytes; ``fits`` counts the most that there ever are."""
    asked = KvRequest(MODEL, ("q4_0", "q4_0:first4", KEPT), text=TEXT, context=64, max_tokens=128)
    plain, first, both = kv(asked).rows
    (all_alike,) = kv(replace(asked, kv=("q4_0",), first=4, window=32)).rows
    assert replace(all_alike, kv=KEPT) == both
    beside = result_of(found, with_cache("fp32", KEPT))
    assert plain.kl is not None and first.kl is not None and both.kl is not None and beside.cache is not None
    assert plain.kl.value > first.kl.value > both.kl.value == pytest.approx(beside.fidelity["kl_mean"].value, rel=1e-4)
    workload = Workload(2**40, context=64)
    sized = fits(FitsRequest(MODEL, workload, ("fp32",)))
    rows = sizing.rows_with(sized.shape, sized.weights, workload, ("q4_0:first4", KEPT))
    small, large = (rows[with_cache("fp32", name)].kv_cache.bytes for name in ("q4_0:first4", KEPT))
    assert plain.bytes < small == first.bytes < beside.cache.bytes == both.bytes < large
    with pytest.raises(InvalidSpec, match="nothing would be rounded"):
        kv(replace(asked, kv=("q4_0", "q4_0:first64")))


def test_names_of_caches_that_keep_tokens() -> None:
    names = ("kivi:first32", " Q8_0/q8_0:first4:window0", "fp8_e4m3:window64")
    with pytest.raises(UnknownName, match="KV precision"):
        checked(replace(ASKED, kv=("q8_0:last4",)))
    with pytest.raises(InvalidSpec, match="window is 70,000"):
        checked(replace(ASKED, kv=("q8_0:window70000",)))
    spec = checked(replace(ASKED, kv=names))
    assert spec.kv == ("int4_kivi:first32", "q8_0:first4", "fp8:window64")
    assert from_query(to_query(spec), Spec("dummy")) == (spec, [])
    assert label_of("int4+kv:q8_0/q4_0:first4:window64") == "INT4 g32, K q8_0, V q4_0 but first 4, last 64"
    assert keeping("q8_0:first4", 8, 64) == "q8_0:first4:window64" and keeping("q8_0", 0, 0) == "q8_0"


def test_memory_is_weights_and_cache(found: Report) -> None:
    plain, rounded = result_of(found, "int4"), result_of(found, "int4+kv:q8_0")
    assert plain.cache is not None and rounded.cache is not None
    assert rounded.footprint_bytes == plain.footprint_bytes
    assert plain.memory - rounded.memory == plain.cache.computed - rounded.cache.bytes > 0
    assert set(damage.memory_against_damage(found)["bytes"]) == {row.memory for row in found.results}
    rows = ranked(found, decide(found, Margin(perplexity=1.0, tokens=1.0)), {})
    placed = [row.result.memory for row in rows if row.place]
    assert placed == sorted(placed)
    assert "of it KV cache" in ranking(found, rows)
    assert "a KV cache of" in candidates.memory_phrase(rounded, found.reference)


def test_streamed_part_by_part_is_as_held(found: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qfund.features.compare.measure.streamed.HELD", 0)
    walked = compare(ASKED)
    for one, other in zip(walked.results, found.results, strict=True):
        assert one.cache == other.cache
        assert one.fidelity["kl_mean"].value == pytest.approx(other.fidelity["kl_mean"].value, rel=1e-4, abs=1e-9)


def test_whole_models_cache_alike(found: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "qfund.features.compare.measure.streamed.streamed_or_why_not", lambda *_: "it shall be loaded whole"
    )
    whole = compare(replace(ASKED, kv=("int4_kivi", KEPT)))
    assert whole.whole is not None
    for row in whole.results:
        other = result_of(found, row.precision)
        assert row.fidelity["kl_mean"].value == pytest.approx(other.fidelity["kl_mean"].value, rel=1e-4)
        assert row.cache == other.cache


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_sliding_windows_are_read_in_pieces_as_in_turns(name: str) -> None:
    """Windows of 12 tokens are too short for groups of 32, and long enough for a float; KIVI is refused by name."""
    model = str(checkpoints.folder(name))
    report = compare(Spec(model, "fp32", ("bf16",), text=TEXT, context=40, max_tokens=80, kv=("fp32", "kivi", "bf16")))
    assert result_of(report, "fp32+kv:fp32").fidelity["kl_mean"].value == pytest.approx(0, abs=1e-9)
    assert set(report.refused) == {"fp32+kv:int4_kivi", "bf16+kv:int4_kivi"}
    assert "forget all but 11 tokens" in report.refused["bf16+kv:int4_kivi"]
    invariants.consistent(report)


def test_a_cache_that_groups_do_not_divide_is_refused_and_the_rest_measured() -> None:
    asked = Spec(
        str(checkpoints.folder("llama")), "fp32", ("bf16",), text=TEXT, context=16, max_tokens=32, kv=("bf16", "int8")
    )
    report = compare(asked)
    assert set(report.refused) == {"fp32+kv:int8", "bf16+kv:int8"} and "groups of 64" in report.refused["fp32+kv:int8"]
    assert [row.precision for row in report.results] == ["bf16", "fp32+kv:bf16", "bf16+kv:bf16"]
    with pytest.raises(UnsupportedModel, match="masked language model"):
        compare(Spec(str(checkpoints.folder("bert-masked")), "fp32", ("bf16",), text=TEXT, kv=("bf16",)))


def test_one_budget_picks_weights_and_cache(found: Report) -> None:
    """The closest pair that fits, by the memory that ``fits`` works out at another context than was measured."""
    workload = Workload(2**40, context=4096)
    sized = fits(FitsRequest(MODEL, workload, ("fp32", "int4")))
    rows = sizing.rows_with(sized.shape, sized.weights, workload, found.spec.kv)
    every = together.pairs(found, rows)
    by_name = {pair.candidate: pair for pair in every}
    assert set(by_name) == {"fp32", *found.spec.candidates}
    assert [pair.bytes for pair in every] == sorted(pair.bytes for pair in every)
    cache = result_of(found, "int4+kv:q8_0").cache
    assert cache is not None and by_name["int4+kv:q8_0"].cache == 4096 // cache.tokens * cache.bytes
    best = together.least(every)
    assert best is not None and best.candidate == "fp32" and "the reference itself" in sentence(every, workload, "here")
    for pair in every:
        beaten = [other for other in every if other.bytes <= pair.bytes and other.distance < pair.distance]
        assert pair.frontier == (not beaten), pair.candidate
    # As much as all but the largest need: the closest of the others.
    largest = max(pair.total for pair in every)
    less = replace(workload, budget=largest - 1)
    found_there = together.pairs(found, sizing.rows_with(sized.shape, sized.weights, less, found.spec.kv))
    second = together.least(found_there)
    assert second is not None and second.candidate == "fp32+kv:q8_0" and second.total < largest
    none = replace(workload, budget=2**20)
    nothing = together.pairs(found, sizing.rows_with(sized.shape, sized.weights, none, found.spec.kv))
    assert together.least(nothing) is None and "lacks" in sentence(nothing, none, "1MiB")
    shown = frontier(every)
    assert sum(len(trace.x) for trace in shown.data[1:]) == len(every) - 1  # the reference has no place on it


def test_names_of_caches() -> None:
    assert checked(replace(ASKED, kv=("FP8_E4M3", "kivi", "q8_0/q8_0", "q8_0"))).kv == ("fp8", "int4_kivi", "q8_0")
    with pytest.raises(UnknownName, match="KV precision 'int5'"):
        checked(replace(ASKED, kv=("int5",)))
    with pytest.raises(InvalidSpec, match="No candidate"):
        checked(replace(ASKED, precisions=(), kv=()))
    assert checked(replace(ASKED, precisions=())).candidates == tuple(with_cache("fp32", cache) for cache in CACHES)


def test_link_json_key_and_calls(found: Report) -> None:
    spec = checked(ASKED)
    assert from_query(to_query(spec), Spec("dummy")) == (spec, [])
    _, problems = from_query({**to_query(spec), "kv": ["int5"]}, Spec("dummy"))
    assert len(problems) == 1 and "KV precision 'int5'" in problems[0]
    assert from_json(to_json(found)) == found
    assert "--kv q8_0 int4_kivi" in calls.shell(spec) and "kv=['q8_0'" in calls.python(spec)
    plain = replace(spec, kv=())
    assert key_of(spec) != key_of(plain) and "kv" not in to_query(plain)


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, rest = str(checkpoints.folder("llama")), ["--max-tokens", "32", "--context", "16", "--quiet", "--no-store"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", model, "--precision", "bf16", "--kv", "fp16", *rest])
    assert "BF16, KV fp16" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["kv", model, "--precision", "bf16", "fp16", "--kv", "fp16", "--budget", "1GiB", *rest])
    assert "One budget for weights and cache, 1GiB" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["kv", model, "--kv", "fp16", "--budget", "1GiB", "--first", "4", "--window", "5", *rest])
    assert "KV fp16 but first 4, last 5" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", model, "--first", "4", *rest])
    assert "no --kv is named" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", model, "--kv", "fp16", "--first", "16", *rest])
    assert "nothing would be rounded" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", model, "--kv", "int5", *rest])
    assert "Unknown KV precision 'int5'" in capsys.readouterr().err


def test_page(opened: Open, jobs: FakeJobs, store: Store, found: Report) -> None:
    at = opened()
    at.multiselect(key="choice_kv").set_value(["q8_0"]).run()
    at.button(key="compare").click().run()
    assert jobs.submitted[-1].kv == ("q8_0",) and at.query_params["kv"] == "q8_0"
    store.put(COMPARE, key_of(found.spec), found)
    for name in SECTIONS.values():
        shown = opened(to_query(found.spec), **section(name))
        assert not shown.exception, name
        assert name != "Fidelity" or "INT4 g32, K q8_0, V q4_0" in board(shown)


def test_a_model_without_layers_that_attend_has_no_cache_and_the_rest_is_measured() -> None:
    report = compare(Spec("dummy", "fp32", ("bf16",), kv=("int8",)))
    assert set(report.refused) == {"fp32+kv:int8", "bf16+kv:int8"}
    assert all("names no layers" in why for why in report.refused.values())
    assert result_of(report, "bf16").fidelity
