"""How much text goes through models in memory at once: measured on the text itself, kept, and said."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.errors import Cancelled
from qfund.features.compare.measure import batches, noise
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.report import BatchFacts, Report, from_json, to_json
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.words.report import provenance
from qfund.models.inputs import Batch, texts
from qfund.models.inputs.regrouping import regrouped
from qfund.stream.walker import Walker
from tests.features.compare.test_rounds import Told
from tests.tiny.checkpoints import TEXT, folder

#: 24 batches of 4 chunks of 16 tokens.
ASKED = Spec(str(folder("llama-untied")), precisions=("bf16",), text=TEXT * 30, max_tokens=24 * 64, context=16)
SHORT = replace(ASKED, max_tokens=5 * 64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("QFUND_HOME", str(tmp_path))
    monkeypatch.setattr(texts, "_BATCH_TOKENS", 64)
    monkeypatch.setattr(noise, "POSITIONS", 64)
    monkeypatch.setattr(batches, "_TURNS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], list[int]]:
    """Given what a chunk costs in batches of so many, the chunks of the batches that the reference runs."""

    def costs(each: dict[int, float]) -> list[int]:
        run: list[int] = []
        through = Walker.through

        def noted(self: Walker, batch: int) -> None:
            through(self, batch)
            count = len(self._batches[batch]["input_ids"])
            self.spent[batch] = each.get(count, 1.0) * count
            if self.way.name == "reference":
                run.append(count)

        monkeypatch.setattr(Walker, "through", noted)
        return run

    return costs


Costs = Callable[[dict[int, float]], list[int]]


def near(one: Report, other: Report) -> None:
    for a, b in zip(one.results, other.results, strict=True):
        assert a.fidelity["kl_mean"].n == b.fidelity["kl_mean"].n
        assert a.fidelity["kl_mean"].value == pytest.approx(b.fidelity["kl_mean"].value, rel=1e-3, abs=1e-9)
        assert a.fidelity["perplexity"].value == pytest.approx(b.fidelity["perplexity"].value, rel=1e-5)


def test_the_fastest_is_taken_said_and_taken_again(sizes: Costs, home: Path) -> None:
    run = sizes({2: 0.8, 8: 0.9})
    usual = compare(SHORT)
    assert run == [4] * 5 and usual.batch is None, "too short for it to pay"
    run.clear()
    found = compare(ASKED)  # of one that keeps no result nothing is kept
    assert found.batch == BatchFacts(2, 1, True) and not (home / "rounds").exists()
    # The noise's batch, 8 chunks each in batches of 2, 4 and 8, and all that is left.
    assert run == [4] + [2, 2, 2, 2, 4, 4, 8] + [2] * 34
    assert "2 chunks at once (measured)" in provenance(found) and from_json(to_json(found)).batch == found.batch
    compare(ASKED, Told())
    run.clear()
    again = compare(SHORT, Told(fresh=False))
    assert set(run) <= {2} and again.batch == BatchFacts(2, 1, True), "a short text takes what is known"
    near(again, usual)
    run.clear()
    assert compare(SHORT, Told(fresh=True)).batch is None and set(run) == {4}


@pytest.mark.parametrize(("each", "chunks"), [({2: 0.98, 8: 0.975}, 4), ({8: 0.9}, 8), ({2: 1.2, 4: 1.0, 8: 1.1}, 4)])
def test_another_size_must_be_worth_it(sizes: Costs, each: dict[int, float], chunks: int) -> None:
    run = sizes(each)
    found = compare(ASKED)
    assert found.batch == BatchFacts(chunks, 1, True) and run[-4:-1] == [chunks] * 3
    assert sum(run) == 24 * 4


def test_who_goes_on_goes_on_with_the_size_that_was_begun_with(sizes: Costs) -> None:
    run = sizes({8: 0.9})
    long, told = replace(ASKED, max_tokens=36 * 64, without=("noise", "map")), Told(stop_after=7)
    with pytest.raises(Cancelled):
        compare(long, told)
    assert {2, 4, 8} == {*run} and told.reports[-1].batch == BatchFacts(8, 1, True)
    run.clear()
    again = compare(long, Told())
    assert run == [8] * 4 + [4] + [8] * 4 + [4] and again.batch == BatchFacts(8, 1, True)


def test_the_middle_of_some_turns_counts(sizes: Costs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_TURNS", 2)
    monkeypatch.setattr(batches, "TRIED", (1.0, 2.0))
    run = sizes({8: 0.9})
    assert compare(replace(ASKED, without=("noise",))).batch == BatchFacts(8, 1, True)
    assert run == 2 * [4, 4, 8] + [8] * 8


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), max_size=5),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    st.integers(1, 4),
)
def test_other_batches_hold_the_same(runs: list[tuple[int, int]], times: float, size: int) -> None:
    """Runs of chunks of one length, in batches of at most so many."""
    given, number = list[Batch](), 0
    for length, count in runs:
        for start in range(0, count, size):
            rows = min(size, count - start)
            ids = torch.arange(number, number + rows)[:, None].expand(rows, length).contiguous()
            scored = ids % 2 == 0 if number % 2 else None
            given.append(Batch({"input_ids": ids}, ids + 1, scored, torch.arange(number, number + rows)))
            number += rows
    found = regrouped(given, times)
    assert [int(chunk) for batch in found for chunk in batch.chunks] == list(range(number))
    for batch in found:
        ids = batch.arguments["input_ids"]
        assert torch.equal(ids[:, 0], batch.chunks) and batch.targets is not None
        assert torch.equal(batch.targets, ids + 1)
        assert len(batch.chunks) <= (max(2, int(size * times)) if size > 1 else 1)

    def positions(every: list[Batch]) -> list[bool]:
        parts = [torch.ones_like(b.chunks, dtype=torch.bool) if b.scored is None else b.scored[:, 0] for b in every]
        return [bool(value) for part in parts for value in part]

    assert positions(found) == positions(given)


def test_pictures_stay_as_they_are() -> None:
    pictures = [Batch({"pixel_values": torch.ones(4, 3, 2, 2)})] * 3
    assert regrouped(pictures, 2.0) == pictures


@pytest.mark.parametrize(("room", "chunks"), [(64 * 1024**2, 4), (400_000, 2), (100_000, 2)])
def test_two_lanes_share_a_batch_where_both_would_take_much(
    room: int, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ROOM", room)
    torch.set_num_threads(2)
    assert compare(SHORT).batch == BatchFacts(chunks, 2, False)


def test_a_text_that_ends_with_a_short_batch_is_told_by_the_others() -> None:
    torch.set_num_threads(2)
    found = compare(replace(SHORT, max_tokens=2 * 64 + 16), Told())  # of whose rounds the last is that batch
    assert found.batch == BatchFacts(4, 2, False)
