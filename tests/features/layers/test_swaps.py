"""Single swaps at the outputs: a control of exactly nothing, and the comparison's own figure for everything."""

import math
from pathlib import Path

import pytest

from qfund.core.errors import EngineError, UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.layers import tables, words
from qfund.features.layers.measure import swapped
from qfund.features.layers.measure.injected import layers
from qfund.features.layers.measure.swapped import swaps as measure
from qfund.features.layers.request import swaps
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.swaps import PARTS, Swaps, SwapsRequest
from tests.tiny import checkpoints

TEXT = checkpoints.TEXT * 2


@pytest.fixture(scope="module")
def found() -> Swaps:
    return measure(
        SwapsRequest(str(checkpoints.folder("llama")), ("int4", "int2"), text=TEXT, context=16, part="module")
    )


def test_everything_swapped_is_the_precision_and_nothing_the_reference(found: Swaps) -> None:
    report = compare(Spec(found.request.model, precisions=("int4", "int2"), text=TEXT, context=16))
    for result in report.results:
        mine, theirs = found.together[result.precision], result.fidelity
        assert mine.kl == theirs["kl_mean"]
        assert mine.changed.value == pytest.approx(1 - theirs["top1_agreement"].value, abs=1e-12)
        assert set(mine.modules) == set(result.converted_modules)
    assert found.control == 0
    swaps.consistent(found)


class Telling:
    """A progress whose results are kept, ended once ``left`` walks were begun."""

    def __init__(self, left: int | None = None, fresh: bool = False) -> None:
        self.left, self.fresh, self.phases, self.shares = left, fresh, list[str](), list[float]()

    def __call__(self, phase: str, share: float) -> None:
        assert 0 <= share <= 1
        if phase == "reading what stays in memory":
            self.phases.append(phase)
            self.shares.append(share)
            if len(self.phases) - 1 == self.left:
                raise KeyboardInterrupt

    def so_far(self, result: object) -> None: ...


def test_what_is_ended_loses_one_walk(found: Swaps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A block's swaps at a time: the control with the first block's, the second's, then everything at once."""
    monkeypatch.setenv("QFUND_HOME", str(tmp_path))
    monkeypatch.setattr(swapped, "WALK", 1)
    monkeypatch.setattr(swapped, "FEWEST", 1)
    ended, rest = Telling(left=2), Telling()
    with pytest.raises(KeyboardInterrupt):
        measure(found.request, ended)
    assert measure(found.request, rest).swaps == found.swaps and len(rest.phases) == 1
    assert ended.shares[0] == 0 < ended.shares[1] < ended.shares[2] == rest.shares[0]  # it goes on where that was
    again, anew, unkept = Telling(), Telling(fresh=True), list[str]()
    whole = measure(found.request, again)
    assert (whole.swaps, whole.together, whole.control) == (found.swaps, found.together, 0.0) and not again.phases
    assert measure(found.request, anew).swaps == found.swaps and len(anew.phases) == 3
    measure(found.request, lambda phase, share: unkept.append(phase))
    assert "reading what stays in memory" in unkept


@pytest.mark.parametrize("part", PARTS)
def test_parts_make_up_the_model(part: str) -> None:
    result = measure(
        SwapsRequest(str(checkpoints.folder("llama")), ("int4",), text=checkpoints.TEXT, max_tokens=64, part=part)
    )
    parts = [module for row in result.swaps for module in row.modules]
    assert sorted(parts) == sorted(result.together["int4"].modules)
    assert len(result.swaps) == {"block": 2, "module": 14, "kind": 7}[part]
    assert all(row.kl.value > 0 for row in result.swaps)


def test_shares_and_sentences(found: Swaps) -> None:
    frame = tables.swapped(found)
    for _, rows in frame.groupby("precision"):
        assert math.isclose(rows["share"].sum(), 1)
        assert rows["kl"].is_monotonic_decreasing
    total = sum(row.kl.value for row in swaps.of(found, "int2"))
    held = [row.kl.value for row in swaps.of(found, "int2")]
    count = swaps.half(found, "int2")
    assert sum(held[:count]) >= total / 2 > sum(held[: count - 1])
    assert swaps.additivity(found, "int2") == pytest.approx(found.together["int2"].kl.value / total)
    sentence = words.swaps_headline(found, "int2")
    assert f"comes from {count} of 14 modules" in sentence and held
    assert swaps.of(found, "int2")[0].part.removeprefix("model.") in sentence


def test_beside_what_modules_do_by_themselves(found: Swaps) -> None:
    other = layers(LayersRequest(found.request.model, ("int4", "int2"), text=TEXT, context=16))
    frame = tables.against(other, found)
    assert len(frame) == len(found.swaps)
    assert set(tables.rank_correlation(frame)) == {"int4", "int2"}
    assert all(-1 <= value <= 1 for value in tables.rank_correlation(frame).values())


def test_tied_weights_change_together() -> None:
    """A head that shares its weight with the embeddings is swapped with them."""
    result = measure(
        SwapsRequest(
            "pydoc-llama", ("int4",), text="def open(path):\n    return the file", also=("head",), part="module"
        )
    )
    tied = [row for row in result.swaps if "lm_head" in row.modules]
    assert [row.modules for row in tied] == [("model.embed_tokens", "lm_head")]


def test_an_encoder_has_no_outputs_to_diverge() -> None:
    with pytest.raises(UnsupportedModel, match="hidden states"):
        measure(SwapsRequest(str(checkpoints.folder("bert-encoder")), ("int4",), text="The fox."))


def test_a_control_that_differs_is_not_published(found: Swaps) -> None:
    from dataclasses import replace

    with pytest.raises(EngineError, match="control"):
        swaps.consistent(replace(found, control=1e-9))
