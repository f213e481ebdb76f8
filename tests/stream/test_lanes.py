"""Models side by side: the very same outputs, in the same order, with nothing left behind."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qfund.core.errors import UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.precisions.table import PRECISIONS
from qfund.stream.held.lanes import Lanes, SideBySide
from qfund.stream.held.share import share
from qfund.stream.streamed import Streamed
from qfund.stream.walker import NotStreamable, Walker, Way
from tests.stream.test_stream import ROWS, TEXT, Heard, assert_same, opened, tensors, ways
from tests.tiny.checkpoints import folder


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "lane"]
    torch.set_num_threads(before)


def held(name: str, asked: list[Way] | None = None) -> tuple[Streamed, list[dict[str, Tensor]]]:
    found, batches = opened(name)
    walk = Streamed(found, asked or ways(found, ROWS))
    walk.hold_where_small(1 << 30)
    assert walk.held
    return walk, batches


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "vit-classifier"])
def test_they_give_what_one_after_the_other_gives(name: str) -> None:
    side, batches = held(name)
    assert side.lanes == Lanes(2, 1)
    heard, after = Heard(), Heard()
    side.run(batches * 3, heard)
    with side.lanes.threaded():
        alone, _ = held(name)
        assert alone.lanes == Lanes(1, 1)
        alone.run(batches * 3, after)
    assert list(heard.outputs) == list(after.outputs) == list(range(len(batches) * 3))
    assert heard.hidden.keys() == after.hidden.keys()
    for key, states in after.hidden.items():
        assert torch.equal(heard.hidden[key], states), key
    for number, outputs in after.outputs.items():
        assert list(outputs) == list(heard.outputs[number])
        for way, output in outputs.items():
            assert_same(tensors(heard.outputs[number][way]), tensors(output))


class Model:
    """A walker of which it is noted what it does when."""

    def __init__(self, number: int, frame: Any, notes: list[tuple[str, int, int]], draws: bool = False) -> None:
        self.number, self.frame, self._notes, self._draws = number, frame, notes, draws

    def through(self, batch: int) -> None:
        self._notes.append(("begins", self.number, batch))
        assert share() in (1.0, 0.5, 1 / 3)
        self._notes.append(("ends", self.number, batch))

    def draws(self, batch: int) -> bool:
        return self._draws


@settings(max_examples=60, deadline=None)
@given(
    frames=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    batches=st.integers(0, 5),
    lanes=st.integers(1, 3),
    draws=st.booleans(),
)
def test_whatever_comes_first_it_comes_in_order(frames: list[int], batches: int, lanes: int, draws: bool) -> None:
    notes: list[tuple[str, int, int]] = []
    models = [Model(number, frame, notes, draws) for number, frame in enumerate(frames)]
    begun: list[int] = []
    side = SideBySide(
        cast(list[Walker], models),
        range(2, 2 + batches),
        Lanes(lanes, 1),
        lambda batch: notes.append(("in", -1, batch)),
    )
    side.run(begun.append)
    assert torch.get_num_threads() == 2 and share() == 1.0
    assert begun == sorted(set(begun)) and set(begun) <= set(range(2, 2 + batches))
    assert [batch for what, _, batch in notes if what == "in"] == list(range(2, 2 + batches))
    assert len(notes) == batches * (2 * len(frames) + 1)
    running, done, taken = dict[int, int](), set[tuple[int, int]](), 2
    for what, number, batch in notes:
        if what == "begins":
            assert frames[number] not in running.values() and batch <= taken + 1
            assert number == 0 or (0, batch) in done, "the reference comes first"
            assert batch == 2 or (number, batch - 1) in done
            running[number] = frames[number]
            assert len(running) <= (1 if draws else lanes)
        elif what == "ends":
            del running[number]
            done.add((number, batch))
        else:
            assert all((number, batch) in done for number in range(len(frames)))
            taken += 1


def test_a_gpu_has_one_lane_and_one_model_all_threads() -> None:
    assert Lanes.of(4, torch.device("cuda")) == Lanes(1, 2)
    assert Lanes.of(1, torch.device("cpu")) == Lanes(1, 2)
    assert Lanes.of(3, torch.device("cpu")) == Lanes(2, 1)


def test_of_two_errors_the_one_counts_that_would_have_come_first() -> None:
    later = threading.Event()

    class Wrong(Model):
        def through(self, batch: int) -> None:
            if self.number == 2:
                later.set()
            assert self.number == 2 or later.wait(30)
            raise ValueError(f"no {self.number}")

    models = [Model(0, 0, []), Wrong(1, 1, []), Wrong(2, 2, [])]
    with pytest.raises(ValueError, match="no 1"):
        SideBySide(cast(list[Walker], models), range(2), Lanes(2, 1), lambda batch: None).run(lambda batch: None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UnsupportedModel])
def test_who_stops_it_stops_all_of_it(error: type[BaseException]) -> None:
    stopped, notes = threading.Event(), list[tuple[str, int, int]]()

    class Stopping(Model):
        def through(self, batch: int) -> None:
            super().through(batch)
            if threading.current_thread() is threading.main_thread() and self.number + batch:
                stopped.set()
                raise error("enough", "stop")
            assert not self.number + batch or stopped.wait(30)

    models = [Stopping(number, number, notes) for number in range(3)]
    with pytest.raises(error):
        SideBySide(cast(list[Walker], models), range(50), Lanes(2, 1), lambda batch: None).run(lambda batch: None)
    assert len(notes) <= 6


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_an_error_says_which_model_and_all_is_as_before(wrong: int) -> None:
    names = ("fp32", "bf16", "int8")
    walk, batches = held("llama", [Way(name, PRECISIONS[name]) for name in names])
    heard = Heard()
    walk.run(batches, heard)

    def fails(*_: Any) -> None:
        raise ZeroDivisionError("nothing is left")

    handle = walk.walkers[wrong].frame.model.register_forward_hook(fails)
    with pytest.raises(NotStreamable, match="nothing is left") as raised:
        walk.run(batches * 2, Heard())
    assert raised.value.way == names[wrong]
    handle.remove()
    again = Heard()
    walk.run(batches, again)
    for number, outputs in heard.outputs.items():
        for way, output in outputs.items():
            assert_same(tensors(again.outputs[number][way]), tensors(output))


def test_seconds_of_models_side_by_side_are_those_of_a_clock() -> None:
    """What each took, and the statistics, are no more than all of it."""
    report = compare(Spec(str(folder("llama")), precisions=("bf16", "int8", "fp32"), text=TEXT, context=16))
    assert report.costs is not None and report.costs.reading > 0
    assert 0 < sum(row.forward_seconds for row in (report.reference, *report.results)) < report.seconds


def test_a_model_beside_itself_does_not_differ_and_its_noise_has_other_threads() -> None:
    report = compare(Spec(str(folder("llama")), precisions=("fp32", "int8"), text=TEXT, context=16))
    assert report.whole is None and report.results[0].precision == "fp32"
    values = {name: found.value for name, found in report.results[0].fidelity.items()}
    assert values["kl_mean"] == values["max_abs_logit_diff"] == 0.0
    assert all(row.relative_l2 == 0.0 for row in report.results[0].drift)
    threads = next(row for row in report.noise if row.name == "threads")
    assert threads.meaning == "with 2 threads instead of 1"
    alone = compare(Spec(str(folder("llama")), reference="int8", precisions=("int8",), text=TEXT, context=16))
    assert next(row for row in alone.noise if row.name == "threads").meaning == "with 2 threads instead of 1"
