"""One way through a model: its frame, its forwards, and how they are run."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import QfundError, about, out_of_memory
from qfund.models.decoding import cache as caches
from qfund.models.decoding import reading
from qfund.models.environment import wait_for
from qfund.models.forward import arguments, arithmetic
from qfund.precisions.caches import waits
from qfund.precisions.precision import Precision
from qfund.stream.frame import Frame
from qfund.stream.held.share import share
from qfund.stream.passes import Call, Pass
from qfund.stream.units import Unit

Arguments = Mapping[str, Tensor]


class NotStreamable(Exception):
    """Why a model cannot be run unit by unit, in words; whole it may run. ``way`` names the one that failed."""

    def __init__(self, why: str, way: str | None = None) -> None:
        super().__init__(why)
        self.way = way


class UnknownTail(NotStreamable):
    """A model does something unknown with its head's output, so that its logits cannot be made in parts."""


@dataclass(frozen=True, slots=True)
class Way:
    """A precision, and how its forwards are run.

    Attributes:
        name: tells it from the others.
        threads: that torch computes with; None for as many as it has.
        attention: the attention implementation; None for the model's own choice.
        singly: every example by itself, whatever the batches are.
        batches: how many of the first batches are run; None for all.
        checkpoint: whose weights are run, where that is not the one that is walked through: a quantised file in the
            original's place (``checkpoints.wild.filling``).
        kv: how keys and values are rounded where they are written; None as they are computed, and none is kept.
    """

    name: str
    row: Precision
    threads: int | None = None
    attention: str | None = None
    singly: bool = False
    batches: int | None = None
    checkpoint: Checkpoint | None = None
    kv: str | None = None

    @property
    def in_pieces(self) -> bool:
        """Whether a text may be read by several forwards, one after the other."""
        return self.kv is not None and waits(self.kv) > 0


class Walker:
    """
    Attributes:
        passes: the forwards of each batch: one, one an example, or one a piece of the text; none before it is ``ready``
            and after its output was taken.
        cache: of a way with a rounded cache, what the longest sequence so far takes.
        device: where its forwards run.
        seconds: that they have taken of this machine's time; ``spent`` by batch, of those that it went ``through``.
    """

    def __init__(self, way: Way, frame: Frame) -> None:
        self.way, self.frame = way, frame
        self.passes: list[list[Pass]] = []
        self.seconds, self.spent = 0.0, dict[int, float]()
        self.device = torch.device("cpu")
        self.cache: caches.Sizes | None = None
        self._caches: dict[int, Any] = {}
        self._batches: Sequence[Arguments] = ()

    @property
    def every_pass(self) -> list[Pass]:
        return [forward for parts in self.passes for forward in parts]

    def start(self, batches: Sequence[Arguments], device: torch.device) -> None:
        """Begin with these."""
        self.seconds, self.device, self._batches = 0.0, device, batches[: self.way.batches]
        self.spent = {}
        self.passes = [[] for _ in self._batches]

    def ready(self, batch: int) -> None:
        """Make its forwards of a batch: a thread runs none but those that it makes."""
        self.passes[batch] = self._passes(self._batches[batch], batch, self.device)

    def leave(self) -> None:
        """End its forwards where they are."""
        for forward in self.every_pass:
            forward.leave()
        for number in list(self._caches):
            self._count_cache(number)
        self.passes, self._batches = [], ()

    def step(self, forward: Pass, call: Call | None = None) -> None:
        """Let a forward go on to its next stop.

        Raises:
            NotStreamable: the model raised something.
        """
        try:
            with self.running(), about(self.way.name) if self.way.kv else nullcontext():
                forward.step(call)
        except QfundError:
            raise
        except Exception as error:  # models raise whatever their code and torch's kernels raise
            if out_of_memory(error):
                raise
            why = " ".join(str(error).split())[:300]
            raise NotStreamable(f"it stopped with {type(error).__name__}: {why}", self.way.name) from error

    def through(self, batch: int) -> None:
        """Let its forwards of a batch go through a model that holds all weights, and so stops nowhere."""
        self.ready(batch)
        before = self.seconds
        for forward in self.passes[batch]:
            self.step(forward)
        self.spent[batch] = self.seconds - before

    def draws(self, batch: int) -> bool:
        """Whether its forwards of a batch drew random numbers."""
        return any(forward.drew for forward in self.passes[batch])

    def answer(self, forward: Pass, unit: Unit, output: Tensor) -> None:
        """Let a forward go on from a linear layer that gives ``output`` without being run.

        Raises:
            NotStreamable: as ``step``.
        """
        module = self.frame.model.get_submodule(unit.name)
        slots = self.frame.slots(unit)
        for slot in slots:  # the least that can be multiplied with
            slot.put_rows(torch.zeros((1, *slot.empty.shape[1:]), dtype=slot.empty.dtype, device=output.device))
        handle = module.register_forward_hook(lambda *_: output)
        try:
            self.step(forward)
        finally:
            handle.remove()
            for slot in slots:
                slot.clear()

    @contextmanager
    def running(self) -> Iterator[None]:
        """In its arithmetic and with its threads; the time counts."""
        threads = torch.get_num_threads()
        with arithmetic(self.way.row):
            if self.way.threads:
                torch.set_num_threads(self.way.threads)
            started = time.perf_counter()
            try:
                yield
                wait_for(self.device)
            finally:
                self.seconds += share() * (time.perf_counter() - started)
                if self.way.threads:
                    torch.set_num_threads(threads)

    def output(self, batch: int) -> Any:
        """What the forwards of a batch gave, which is let go here."""
        outputs = [forward.output for forward in self.passes[batch]]
        self.passes[batch] = []
        self._count_cache(batch)
        return outputs if self.way.singly else reading.joined(outputs)

    def _count_cache(self, batch: int) -> None:
        if (cache := self._caches.pop(batch, None)) is not None:
            found = caches.sizes(cache)
            self.cache = max(self.cache, found) if self.cache else found

    def given(self) -> list[list[Tensor]]:
        """What the unit before which all forwards wait is given, batch by batch."""
        return [[forward.call[0][0] for forward in parts] for parts in self.passes]

    def _passes(self, batch: Arguments, number: int, device: torch.device) -> list[Pass]:
        model = self.frame.model
        given = [arguments(model, part, device) for part in (_examples(batch) if self.way.singly else [batch])]
        if self.way.kv:
            with about(self.way.name):
                cache, given = reading.rounded(model.config, given[0], self.way.kv)
            self._caches[number] = cache
        return [Pass(lambda part=part: model(**part), number, self.way) for part in given]  # type: ignore[misc]


def _examples(batch: Arguments) -> list[Arguments]:
    count = len(next(iter(batch.values())))
    return [{name: value[index : index + 1] for name, value in batch.items()} for index in range(count)]
