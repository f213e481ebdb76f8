"""Copies to a GPU beside what it computes, on two queues that are imitated: what stands in them is done when a test (or
hypothesis) says so, and later than the program thinks. Memory that is freed is given out again at once, as by torch's
allocator, so a copy or a buffer in a hurry shows as wrong numbers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qfund.models.loading.uploading import DeviceQueues, Uploads

_SIZE = 16  # bytes of a buffer
_NAMES = ("copies", "computing")


@dataclass
class Place:
    """In a queue: what stands before ``end`` has to be done."""

    queues: "Imitated"
    name: str
    end: int

    @property
    def reached(self) -> bool:
        return self.queues.done[self.name] >= self.end

    def synchronize(self) -> None:
        self.queues.run_until(self)


@dataclass
class Imitated:
    """``without`` names a wait that is left out."""

    without: str = ""
    waiting: dict[str, list[Place | Callable[[], object]]] = field(
        default_factory=lambda: {name: [] for name in _NAMES}
    )
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0))
    freed: list[Tensor] = field(default_factory=list)

    def put(self, name: str, what: Place | Callable[[], object]) -> Place:
        self.waiting[name].append(what)
        return Place(self, name, self.done[name] + len(self.waiting[name]))

    def step(self, name: str) -> bool:
        """Do the first thing in a queue, unless there is none or it has to wait."""
        if not self.waiting[name]:
            return False
        first = self.waiting[name][0]
        if isinstance(first, Place):
            if not first.reached:
                return False
        else:
            with torch.inference_mode():
                first()
        self.waiting[name].pop(0)
        self.done[name] += 1
        return True

    def run_until(self, place: Place) -> None:
        while not place.reached:
            other = "computing" if place.name == "copies" else "copies"
            assert self.step(place.name) or self.step(other), "each waits for the other"

    def buffer(self, size: int) -> Tensor:
        return torch.full((size,), 255, dtype=torch.uint8)

    def empty(self, tensor: Tensor) -> Tensor:
        for place, memory in enumerate(self.freed):
            if memory.shape == tensor.shape and memory.dtype == tensor.dtype:
                return self.freed.pop(place)
        return torch.full(tensor.shape, -1, dtype=tensor.dtype)

    def asked(self) -> Place:
        return Place(self, "computing", self.done["computing"] + len(self.waiting["computing"]))

    def copy(self, source: Tensor, into: Tensor) -> Place:
        place = self.put("copies", lambda: into.copy_(source))
        return Place(self, "copies", 0) if self.without == "buffer" else place

    def copies_wait_for(self, event: Any) -> None:
        if self.without != "memory":
            self.put("copies", event)

    def computing_waits_for(self, event: Any) -> None:
        if self.without != "copy":
            self.put("computing", event if self.without != "buffer" else self.put("copies", lambda: None))


class AtOnce(Executor):
    def submit(self, call: Any, /, *args: Any, **named: Any) -> Future[Any]:
        found: Future[Any] = Future()
        try:
            found.set_result(call(*args, **named))
        except Exception as error:
            found.set_exception(error)
        return found


def run(queues: Imitated, blocks: list[list[int]], steps: list[str], ahead: int) -> list[bool]:
    """Blocks of tensors (of so many numbers) computed with one after the other, ``ahead`` of them begun before; whether
    each tensor held its own numbers when it was used."""
    uploads = Uploads(queues, _SIZE, AtOnce())
    right: list[bool] = []
    stored = [
        {
            str(number): torch.arange(length, dtype=torch.float32) + 1000 * block + 100 * number
            for number, length in enumerate(lengths)
        }
        for block, lengths in enumerate(blocks)
    ]
    turns = iter(steps)

    def go_on() -> None:
        for _ in range(3):
            if name := next(turns, ""):
                queues.step(name)

    arriving = [uploads.begin(tensors) for tensors in stored[:ahead]]
    for block, tensors in enumerate(stored):
        if block + ahead < len(stored):
            arriving.append(uploads.begin(stored[block + ahead]))
        go_on()
        here = arriving[block]
        here.wait()
        for name, expected in tensors.items():
            used = here.tensors[name]
            queues.put("computing", partial(lambda *both: right.append(torch.equal(*both)), used, expected))
        queues.freed += here.tensors.values()
        go_on()
    uploads.close()
    while queues.step("copies") or queues.step("computing"):
        pass
    assert not any(queues.waiting.values())
    return right


@given(
    st.lists(st.lists(st.integers(0, 13), min_size=1, max_size=3), min_size=1, max_size=6),
    st.lists(st.sampled_from(["copies", "computing"]), max_size=40),
    st.integers(0, 2),
)
def test_every_tensor_is_there_when_it_is_used(blocks: list[list[int]], steps: list[str], ahead: int) -> None:
    right = run(Imitated(), blocks, steps, ahead)
    assert len(right) == sum(map(len, blocks)) and all(right)


@pytest.mark.parametrize(
    ("without", "first"),
    [("", "computing"), ("", "copies"), ("buffer", "computing"), ("memory", "copies"), ("copy", "computing")],
)
def test_each_of_the_three_waits_is_needed(without: str, first: str) -> None:
    """By queues of which one goes on by itself, and the other only where somebody waits for it."""
    right = run(Imitated(without), [[13]] * 4, [first] * 60, 0)
    assert all(right) == (not without)


def test_what_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in a stream of their own, which waits for what the current one computes, and that for copies."""
    asked: list[str] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = name if isinstance(name, str) else "copies"

        def record_event(self) -> Any:
            asked.append(f"event of {self.name}")
            return SimpleNamespace(of=self.name, synchronize=lambda: asked.append(f"host waits for {self.name}"))

        def wait_event(self, event: Any) -> None:
            asked.append(f"{self.name} waits for {event.of}")

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        asked.append(f"copy in {stream.name}")
        yield

    for name, answer in {"Stream": Stream, "current_stream": lambda _: Stream("computing"), "stream": within}.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    queues = DeviceQueues(torch.device("cuda:0"))
    monkeypatch.setattr(queues, "buffer", Imitated().buffer)
    monkeypatch.setattr(queues, "empty", Imitated().empty)
    uploads = Uploads(queues, _SIZE, AtOnce())
    coming = uploads.begin({"a": torch.arange(12.0)})  # three buffers' worth
    coming.wait()
    copied = ["copy in copies", "event of copies"]
    assert asked == [
        "event of computing",
        "copies waits for computing",
        *copied,
        *copied,
        "host waits for copies",
        *copied,
        "computing waits for copies",
    ]
    assert coming.tensors["a"].tolist() == [*range(12)]


def test_what_copying_raises_is_raised_where_it_is_waited_for() -> None:
    class Broken(Imitated):
        def copy(self, source: Tensor, into: Tensor) -> Place:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    uploads = Uploads(Broken(), _SIZE)  # in its own thread
    coming = uploads.begin({"a": torch.ones(3)})
    with pytest.raises(torch.OutOfMemoryError):
        coming.wait()
    uploads.close()


def test_a_tensor_of_several_names_is_copied_once_and_strides_do_not_count() -> None:
    queues = Imitated()
    uploads = Uploads(queues, _SIZE, AtOnce())
    one = torch.arange(6.0).reshape(2, 3)
    coming = uploads.begin({"a": one, "b": one, "c": one.T, "d": torch.tensor(7, dtype=torch.int64)})
    coming.wait()
    uploads.close()
    while queues.step("copies") or queues.step("computing"):
        pass
    assert coming.tensors["a"] is coming.tensors["b"]
    assert torch.equal(coming.tensors["a"], one) and torch.equal(coming.tensors["c"], one.T)
    assert coming.tensors["d"].item() == 7
