"""A comparison in rounds: what is told after each, what a stop keeps, and that the end is that of one go."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from qfund import engine
from qfund.cli import main
from qfund.commandline import progress
from qfund.commandline.progress import Quiet, Shown
from qfund.core.errors import Cancelled
from qfund.core.progress import wants
from qfund.engine import unfinished
from qfund.engine.kinds import kind_of
from qfund.engine.store import Store
from qfund.features.compare.command.compare import _soon
from qfund.features.compare.measure import kept
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import duration
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.invariants import consistent
from qfund.features.compare.request.pairs import paired
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.words.rounds import notes
from tests.features.compare.reports import make_report
from tests.tiny import checkpoints

#: Four batches of 32 chunks: each a round, since it is as much as half of what was before.
ASKED = Spec(
    str(checkpoints.folder("llama-untied")),
    precisions=("fp16", "int8", "int2"),
    text=checkpoints.TEXT * 30,
    max_tokens=4096,
    context=32,
)
#: What another hour would change.
_TIMES = {"created", "seconds", "forward_seconds", "costs"}


@dataclass
class Told:
    """A progress that takes results, and stops the work after so many of them."""

    stop_after: int | None = None
    fresh: bool = False
    reports: list[Report] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def __call__(self, phase: str, share: float) -> None:
        self.shares.append(share)

    def so_far(self, result: Any) -> None:
        self.reports.append(result)
        if len(self.reports) == self.stop_after:
            raise Cancelled("stopped")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("QFUND_HOME", str(tmp_path))
    yield tmp_path


@pytest.fixture(scope="module")
def in_one_go() -> Report:
    return compare(ASKED)


def numbers(report: Report) -> Any:
    """All of it but times."""

    def kept_of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept_of(part) for name, part in value.items() if name not in _TIMES}
        return [kept_of(part) for part in value] if isinstance(value, list | tuple) else value

    return kept_of(msgspec.to_builtins(report))


def test_rounds_end_where_one_go_does(in_one_go: Report) -> None:
    told = Told()
    found = compare(ASKED, told)
    assert numbers(found) == numbers(in_one_go)
    assert [report.input.tokens for report in told.reports] == [1024, 2048, 3072]
    assert told.shares == sorted(told.shares)
    for report in told.reports:
        consistent(report)
        assert report.partial and report.planned == 4096
        assert all(result.fidelity["kl_mean"].n == report.input.tokens for result in report.results)
    assert [{result.looks for result in report.results} for report in told.reports] == [{1}, {2}, {3}]
    assert not found.partial and found.planned is None
    # What is told while one may stop is told with a wider interval than of a number that was chosen beforehand.
    short = compare(replace(ASKED, max_tokens=2048))
    for early, alone in zip(told.reports[1].results, short.results, strict=True):
        assert early.fidelity == alone.fidelity
    ends = [decide(report, Margin())[0].findings[0].estimate for report in (told.reports[1], short)]
    assert ends[0].low < ends[1].low and ends[0].high > ends[1].high  # type: ignore[operator]


def test_a_stop_loses_one_round_and_going_on_ends_where_one_go_does(in_one_go: Report) -> None:
    told = Told(stop_after=2)
    with pytest.raises(Cancelled):
        compare(ASKED, told)
    assert told.reports[-1].input.tokens == 2048
    again = Told()
    found = compare(ASKED, again)
    assert again.shares[1] >= 0.25  # not from the start: the first round was kept
    assert [report.input.tokens for report in again.reports] == [2048, 3072]
    assert numbers(found) == numbers(in_one_go)


def test_more_tokens_of_the_same_text_go_on(in_one_go: Report) -> None:
    compare(replace(ASKED, max_tokens=2048), Told())
    again = Told()
    found = compare(ASKED, again)
    assert [report.input.tokens for report in again.reports] == [3072] and numbers(found) == numbers(in_one_go)


def test_what_is_asked_for_afresh_is_measured_afresh(in_one_go: Report, home: Path) -> None:
    compare(ASKED)
    assert not (home / "rounds").exists(), "of one that keeps no result nothing is kept"
    with pytest.raises(Cancelled):
        compare(ASKED, Told(stop_after=2))
    again = Told(fresh=True)
    assert numbers(compare(ASKED, again)) == numbers(in_one_go)
    assert [report.input.tokens for report in again.reports] == [1024, 2048, 3072]


def test_a_file_that_is_damaged_or_of_another_text_begins_anew(in_one_go: Report, home: Path) -> None:
    compare(replace(ASKED, max_tokens=2048), Told())
    for path in (home / "rounds").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    told = Told()
    assert numbers(compare(ASKED, told)) == numbers(in_one_go)
    assert told.reports


def test_who_is_decided_leaves(in_one_go: Report) -> None:
    until = replace(ASKED, until=Margin(perplexity=0.05, tokens=0.2))
    told = Told()
    found = compare(until, told)
    consistent(found)
    assert not found.partial
    decisions = {row.precision: row.state for row in decide(found, until.until or Margin())}
    assert decisions["int2"] == "outside" and decisions["fp16"] != "inconclusive"
    read = {result.precision: result.tokens or found.input.tokens for result in found.results}
    assert min(read.values()) == 1024 < 4096
    for result in found.results:
        whole = next(row for row in in_one_go.results if row.precision == result.precision)
        assert result.fidelity["kl_mean"].n == read[result.precision]
        assert result.footprint_bytes == whole.footprint_bytes and result.looks >= 1


def test_who_would_hardly_be_decided_is_left_open_until_more_is_asked_for() -> None:
    first = compare(replace(ASKED, max_tokens=1024))
    on_it = 1 - first.results[2].fidelity["top1_agreement"].value
    until = replace(ASKED, max_tokens=2048, until=Margin(perplexity=None, tokens=on_it, cosine=None))
    found = compare(until, Told())
    consistent(found)
    row = decide(found, until.until or Margin())[2]
    assert row.state == "inconclusive" and row.more_tokens is None
    assert (found.input.tokens, found.planned, found.results[2].looks) == (1024, 2048, 1), "nobody was read further"
    assert notes(found) == (
        "Read until it was decided: the others after 1,024 of 2,048 tokens.",
        "Left open, since the rest would hardly decide: INT2 g32 after 1,024 tokens.",
    )
    same, more = Told(), Told()
    compare(until, same)
    assert not same.reports, "the same text would say the same"
    compare(replace(until, max_tokens=4096), more)
    assert more.reports[0].input.tokens == 1024, "what it has not read cannot be left out"


def test_candidates_that_read_differently_far_are_paired_on_what_both_read() -> None:
    found = compare(replace(ASKED, until=Margin(perplexity=0.0045, tokens=None)))
    read = {result.precision: result.tokens or found.input.tokens for result in found.results}
    early, late = min(read, key=read.__getitem__), max(read, key=read.__getitem__)
    assert read[early] < read[late]
    short = compare(replace(ASKED, max_tokens=read[early]))
    assert paired(found, early, late)["kl_mean"].value == paired(short, early, late)["kl_mean"].value


def test_noise_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(ASKED, Told())
    assert first.noise
    monkeypatch.setattr(kept.Floor, "put", lambda *_: pytest.fail("measured again"))
    other = compare(
        replace(ASKED, precisions=("bf16",), text="Another text, of which nobody has heard. " * 300), Told()
    )
    assert other.noise == first.noise


def _command(monkeypatch: pytest.MonkeyPatch, *arguments: str, **stops: bool) -> int | str | None:
    def measured(request: Spec, *, progress: Any, **_: Any) -> Report:
        progress("running", 0.1)
        report = replace(make_report(request), partial=True, planned=4096)
        progress.so_far(report)
        if stops:
            raise KeyboardInterrupt
        return replace(report, partial=False)

    monkeypatch.setattr(engine, "compute", measured)
    with pytest.raises(SystemExit) as ended:
        main(["compare", "pydoc-llama", "--precision", "bf16", "--no-store", *arguments])
    return ended.value.code


def test_a_command_says_how_long_it_takes_and_what_is_decided(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(monkeypatch, "--until-decided", "--margin-tokens", "3") == 0
    told = capsys.readouterr()
    assert "This takes a" in told.err and "of 4,096 tokens: " in told.err
    assert "So far" not in told.out
    assert _command(monkeypatch, "--quiet") == 0
    assert not capsys.readouterr().err


def test_a_command_that_is_stopped_prints_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(monkeypatch, stops=True) == 130
    told = capsys.readouterr()
    assert "So far: " in told.out and "of 4,096 tokens" in told.out
    assert "goes on from there" in told.err


def test_the_command_reads_a_slow_model_in_short_chunks_and_goes_on_with_those_that_it_began_with(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    # 1.1 · 10⁹ weights at 174 GFLOP/s: 12.6 ms a token and way. 2,048 tokens in three ways take 80 s and more.
    monkeypatch.setattr(duration, "size_of", lambda spec: duration.Size(1_100_000_000, 32_000, 256))
    monkeypatch.setattr(duration, "_speed", lambda: 174e9)
    asked = Spec("dummy", precisions=("int8", "int4"), until=Margin())
    given = Namespace(context=None, stride=None, no_store=False, fresh=False)
    short = _soon(asked, given)
    assert short == replace(asked, context=128)
    assert duration.estimate(short, duration.size_of(short) or pytest.fail(), []).first < duration.MINUTE
    assert _soon(replace(asked, context=256), Namespace(**vars(given) | {"context": 256})).context == 256
    unfinished.keep(Store(), kind_of(asked), engine.key_of(asked), make_report(asked))
    assert _soon(asked, given) == asked, "the same command goes on from there"
    assert _soon(asked, Namespace(**vars(given) | {"fresh": True})) == short


def test_a_command_has_no_result_made_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was told a moment ago waits: to make one takes time too. A progress that says nothing has all."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    shown = Shown()
    for told in (shown, Quiet(shown)):
        now[0] += 10
        assert wants(told)
        told.so_far("a result")
        assert not wants(told)
        now[0] += 2.9
        assert not wants(told)
    now[0] += 0.2
    assert wants(shown)
    assert wants(Told())
    assert not wants(lambda phase, share: None)
