"""Token maps of very many positions: numbers as bytes, which positions are kept in full, and what the browser gets."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qfund.core import codes
from qfund.features.compare.measure import tokens
from qfund.features.compare.measure.tokens import Worst
from qfund.features.compare.request import report
from qfund.features.compare.view.token_map import payload
from qfund.inputs.facts import InputFacts
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.inputs import Batch, Prepared
from qfund.models.tasks import TASKS
from tests.features.compare.reports import full_report, long_tokens, make_report

MAGNITUDES = arrays.arrays(
    np.float64, st.integers(0, 40), elements=st.floats(0, 1e30) | st.just(math.nan) | st.just(-1.0)
)


@given(MAGNITUDES)
def test_magnitudes_come_back_to_two_digits(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    code = codes.magnitudes(values)
    found = codes.read_magnitudes(code)
    assert len(code) == 2 * len(values)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    normal = ~np.isnan(values) & (np.abs(values) > 1e-37)
    np.testing.assert_allclose(found[normal], values[normal], rtol=2**-8)
    assert all(found[values == 0] == 0) and all(found[values == -1] == -1)


def test_magnitudes_are_bfloat16() -> None:
    values = np.random.default_rng(0).lognormal(-8, 6, 5000)
    ours = codes.read_magnitudes(codes.magnitudes(values.astype(np.float32)))
    np.testing.assert_array_equal(ours, torch.from_numpy(values).float().bfloat16().float().numpy())


@given(st.lists(st.booleans(), max_size=40))
def test_flags_come_back(values: list[bool]) -> None:
    assert codes.read_flags(codes.flags(values), len(values)).tolist() == values


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 400))
def test_the_largest_of_every_candidate_are_among_the_chosen(seed: int, candidates: int, tile: int) -> None:
    random = np.random.default_rng(seed)
    n = 3000
    kl = random.exponential(1.0, (candidates, n))
    kl[random.random((candidates, n)) < 0.1] = np.nan
    worst = Worst(candidates)
    chosen = np.concatenate([start + worst.choose(list(kl[:, start : start + tile])) for start in range(0, n, tile)])
    assert list(chosen[: tokens.SHOWN]) == list(range(tokens.SHOWN)), "the first are kept whatever they are"
    for values in kl:
        largest = np.argsort(-np.nan_to_num(values))[: worst.each]
        assert set(largest) <= set(chosen)
    assert len(chosen) < tokens.SHOWN + 3 * candidates * worst.each, "and not many more"


def test_equal_outputs_are_worth_nothing() -> None:
    worst = Worst(1)
    assert len(worst.choose([np.zeros(tokens.SHOWN)])) == tokens.SHOWN
    assert len(worst.choose([np.zeros(500)])) == 0 and len(Worst(0).choose([])) == 0


@pytest.mark.parametrize("count", [10, 2500])
def test_the_browser_gets_what_the_report_holds(count: int) -> None:
    found = make_report() if count == 10 else long_tokens(full_report(), count)
    assert found.tokens is not None
    data = payload(found, "a key")
    (length,) = struct.unpack_from("<I", data)
    assert length % 4 == 0
    header = json.loads(data[4 : 4 + length])
    assert header["pieces"] == list(found.tokens.pieces) and header["total"] == count
    assert [i for first, end in header["detailed"] for i in range(first, end)] == list(found.tokens.detailed)
    at = 4 + length
    for candidate in found.tokens.candidates.values():
        assert data[at : at + 2 * count] == candidate.every_kl
        at += 2 * count
    for candidate in found.tokens.candidates.values():
        bits = -(-count // 8)
        assert data[at : at + bits] == candidate.every_changed
        at += bits
    assert at == len(data)


def test_a_long_map_survives_json() -> None:
    found = long_tokens(full_report(), 5000)
    assert report.from_json(report.to_json(found)) == report.renewed(found)


def test_what_was_kept_of_a_later_position_is_shown_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 40 positions in two chunks, of which every second one is scored; the first 8 are kept, and the worst."""
    monkeypatch.setattr(tokens, "SHOWN", 8)
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(0, 3, (20, 12)))
    others = {
        name: logits + torch.from_numpy(random.normal(0, noise, (20, 12))) for name, noise in (("a", 0.1), ("b", 1))
    }
    others["b"][5] = math.nan
    comparison = Comparison({name: Candidate() for name in others})
    comparison.add_logits(logits, others, choose=lambda _: np.arange(20))
    p, q = logits.softmax(-1), others["a"].softmax(-1)
    kl = (p * (p.log() - q.log())).sum(-1).numpy()
    late = 8 + int(kl[8:].argmax())
    for candidate in (comparison.reference, *comparison.candidates.values()):
        candidate.kept = {number: candidate.kept[number] for number in (*range(8), late)}
    scored = torch.arange(40).reshape(2, 20) % 2 == 1
    batch = Batch({}, torch.zeros(2, 20, dtype=torch.int64), scored)
    facts = InputFacts("text", "", 40, 2, 20)
    prepared = Prepared((batch,), facts, tuple(map(str, range(40))), (0, 20), True, Letters())
    found = tokens.token_map(prepared, comparison, TASKS["causal language model"])
    assert found is not None
    first = 2 * 7 + 1  # the place of the eighth scored position
    assert found.detailed == (*range(first + 1), 2 * late + 1)
    a, b = found.candidates["a"], found.candidates["b"]
    every = codes.read_magnitudes(a.every_kl)
    np.testing.assert_allclose(every[1::2], kl, rtol=2**-8)
    assert set(every[0::2]) == {-1.0} and math.isnan(codes.read_magnitudes(b.every_kl)[11])
    assert a.kl[-1] == pytest.approx(kl[late], rel=1e-3) and a.kl[0] is None and b.kl[11] is None
    changed = codes.read_flags(a.every_changed, 40)[1::2]
    assert changed.tolist() == (p.argmax(-1) != q.argmax(-1)).tolist()
    for alternatives, shares in ((found.reference, p), (a.alternatives, q)):
        best = torch.topk(shares[late], 5)
        assert [found.vocabulary[token] for token in alternatives.tokens[-1]] == [chr(97 + i) for i in best.indices]
        assert alternatives.probabilities[-1] == pytest.approx(best.values.tolist(), rel=1e-3)
        assert alternatives.tokens[0] == (), "nothing is predicted there"


class Letters:
    """A tokenizer of twelve letters."""

    def decode(self, ids: list[int]) -> str:
        return chr(97 + ids[0])
