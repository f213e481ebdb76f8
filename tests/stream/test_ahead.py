"""Weights that are read ahead: only where reading waits and there is room, and never others than are needed."""

import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from qfund.checkpoints import reading
from qfund.core.errors import ModelNotFound
from qfund.stream.ahead import Ahead
from qfund.stream.streamed import Streamed
from qfund.stream.units import BLOCK, Unit
from tests.stream.test_stream import Heard, opened, ways

ONE, TWO, THREE = (Unit(name, BLOCK, (name,)) for name in ("one", "two", "three"))


class Read:
    """A reader that says what it read, in which thread; ``gate`` holds it up."""

    def __init__(self) -> None:
        self.units: list[str] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False

    def __call__(self, unit: Unit) -> dict[str, Tensor]:
        self.units.append(unit.name)
        self.threads.append(threading.get_ident())
        assert self.gate.wait(60)
        if self.fails:
            raise ModelNotFound("it is gone.", "Look for it.")
        return {unit.name: torch.ones(1)}


@pytest.fixture
def read() -> Read:
    return Read()


def waiting(read: Read, size: int = 1) -> Ahead[Unit, dict[str, Tensor]]:
    found = Ahead(read, lambda unit: size)
    found.waited = 1e9
    return found


def test_nothing_is_read_ahead_where_reading_does_not_wait(read: Read) -> None:
    ahead = Ahead(read, lambda unit: 1)
    ahead._started -= 1000  # a walk that has taken so long, and waited for nothing
    ahead.take(ONE)
    ahead.begin(TWO)
    assert read.units == ["one"] and ahead._next is None


def test_what_waits_is_read_while_the_caller_does_something_else(read: Read) -> None:
    ahead = waiting(read)
    assert list(ahead.take(ONE)) == ["one"]
    read.gate.clear()
    ahead.begin(TWO)
    ahead.begin(THREE)  # one at a time
    read.gate.set()
    assert list(ahead.take(TWO)) == ["two"] and ahead.ahead == 1
    assert read.units == ["one", "two"]
    assert read.threads[0] == threading.get_ident() != read.threads[1]
    ahead.close()


def test_without_room_or_a_next_part_nothing_is(read: Read) -> None:
    ahead = waiting(read, size=11)
    ahead.room = 10
    ahead.begin(TWO)
    ahead.room = 11
    ahead.begin(None)
    assert read.units == []
    ahead.begin(TWO)
    ahead.close()
    assert read.units == ["two"]


def test_what_is_not_needed_after_all_is_dropped_with_its_error(read: Read) -> None:
    ahead = waiting(read)
    read.fails = True
    ahead.begin(TWO)
    ahead.only(THREE)
    read.fails = False
    assert list(ahead.take(THREE)) == ["three"] and ahead.ahead == 0
    read.fails = True
    ahead.begin(TWO)
    with pytest.raises(ModelNotFound, match="it is gone"):
        ahead.take(TWO)
    ahead.close()


def test_a_slow_disk_is_read_ahead_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = opened("llama-untied")
    asked = ways(found, ("fp32", "bf16", "int8"))
    plain, usual = Streamed(found, asked), Heard()
    plain.ahead.room = 0
    plain.run(batches, usual)
    fill: Any = reading.fill

    def slowly(memory: memoryview, *place: Any) -> None:
        time.sleep(len(memory) * 1e-6)
        fill(memory, *place)

    monkeypatch.setattr(reading, "fill", slowly)
    walked, heard = Streamed(found, asked), Heard()
    walked.run(batches, heard)
    assert walked.ahead.ahead == 1, "the second block"
    assert walked.reader.bytes_read == plain.reader.bytes_read and plain.ahead.ahead == 0
    for batch, outputs in usual.outputs.items():
        for name, output in outputs.items():
            assert torch.equal(heard.outputs[batch][name].logits, output.logits)


def test_memory_for_one_more_part_is_taken_from_what_is_left_of_the_budget() -> None:
    found, _ = opened("llama")
    walked = Streamed(found, ways(found, ("fp32", "int8")))
    needs = walked.needs()
    least = needs.pop("") + max(needs.values())
    walked.must_fit(least + 5)
    assert walked.ahead.room == 5
