"""Models that are mixed of several precisions, module by module, in one walk over a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.precisions.precision import Precision
from qfund.stream.borrowing import Forward, borrowed
from qfund.stream.groups import Group
from qfund.stream.passes import Call, Pass
from qfund.stream.streamed import Listener, Streamed
from qfund.stream.units import BLOCK, EMBEDDING, Unit
from qfund.stream.walker import Arguments, NotStreamable, Walker, Way

#: Mixes whose logits of a batch are in memory at once.
TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Mix:
    """The reference with ``modules`` in other precisions: name of a module → name of its row."""

    name: str
    modules: Mapping[str, str] = field(default_factory=dict)


class Mixed(Streamed):
    """A walk of the reference, and of mixes of it with other precisions.

    Until a mix comes to its first module of another precision it *is* the reference, and takes its hidden states: of L
    blocks that are swapped one by one, half of the L² forwards are run. Every unit is in memory in all precisions at
    once, which costs their sum and not their largest. Outputs come for ``TOGETHER`` mixes at a time, the reference's
    with them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        reference: Way,
        rows: Sequence[Precision],
        mixes: Sequence[Mix] = (),
        also: Sequence[str] = (),
        layers: bool = True,
    ) -> None:
        """``rows``: the precisions of which modules are taken; the others as ``Streamed`` takes them.

        Raises:
            QfundError, NotStreamable: as ``Streamed``.
        """
        ways = [reference, *(Way(row.name, row) for row in rows)]
        super().__init__(checkpoint, ways, also, layers, tiles=False)
        self.reference = self.walkers[0].frame
        self.frames = {walker.way.row.name: walker.frame for walker in self.walkers[1:]}
        self._outputs_of: dict[int, Any] = {}
        #: What runs in the place of modules while a mix takes a step.
        self.instead: Mapping[nn.Module, Forward] = {}
        swapped = {name for mix in mixes for name in mix.modules}
        for name in swapped.union(self.units.streamed):
            self._may_be_replaced(self.reference.model.get_submodule(name))
        self._mixing = [_Mixing(self, reference, mix) for mix in mixes]
        still = [_Still(walker.way, walker.frame) for walker in self.walkers[1:]]
        self.walkers = [self.walkers[0], *self._mixing, *still]

    def _may_be_replaced(self, module: nn.Module) -> None:
        """Once and for all: torch takes a module's forward before its hooks run, which is where forwards wait."""
        own = module.forward
        module.__dict__["forward"] = lambda *args, **named: self.instead.get(module, own)(*args, **named)

    def module_in(self, name: str, row: str) -> Forward:
        """How a module runs in a precision, while its unit is in memory."""
        frame = self.frames[row]
        return borrowed(frame.model.get_submodule(name), frame.row, self.reference.row)

    def output_of(self, batch: int) -> Any:
        """What the reference's forward of a batch has just given."""
        return self._outputs_of[batch]

    def _groups(self, unit: Unit) -> list[Group]:
        return [Group(unit, tuple(self._every_walked))]

    def _after_blocks(self, listener: Listener) -> Callable[[Unit, Pass, Any], None]:
        heard, reference = super()._after_blocks(listener), self.walkers[0].way

        def passed(unit: Unit, forward: Pass, output: Any) -> None:
            if forward.way is reference:
                self._outputs_of[forward.batch] = output
                heard(unit, forward, output)

        return passed

    def _through(self, unit: Unit) -> None:
        if unit.kind == EMBEDDING and self._looked_up(unit):
            return
        self._fill(self._groups(unit)[0])
        for walker, forward in self._waiting(unit, self.reference):
            walker.step(forward)
        self._outputs_of.clear()

    def _at_the_head(self, unit: Unit, listener: Listener) -> None:
        self._clear()
        self._fill_all(unit)
        reference = self.walkers[0]
        for batch in range(len(reference.passes)):
            self._end(reference, batch)
            output = reference.output(batch)
            for start in range(0, max(1, len(self._mixing)), TOGETHER):
                mixes = self._mixing[start : start + TOGETHER]
                for walker in mixes:
                    self._end(walker, batch)
                given = {walker.way.name: walker.output(batch) for walker in mixes}
                listener.output(batch, {reference.way.name: output, **given})

    def _end(self, walker: Walker, batch: int) -> None:
        for forward in walker.passes[batch]:
            walker.step(forward)
            if forward.at is not None:
                raise NotStreamable(f"it goes on to {forward.at.name} after its head")


class _Still(Walker):
    """Of a precision whose frame is filled, and whose model is never run as a whole."""

    def start(self, batches: Sequence[Arguments], device: torch.device) -> None:
        self.passes = []


class _Mixing(Walker):
    """Runs the reference's frame with some modules' forwards in another's place."""

    def __init__(self, walk: Mixed, reference: Way, mix: Mix) -> None:
        super().__init__(Way(mix.name, reference.row, batches=reference.batches), walk.reference)
        self._walk, self._modules = walk, mix.modules
        self._everywhere = set(walk.units.resident.modules).intersection(mix.modules)
        self._differs = set[int]()  # batches whose hidden states are no longer the reference's

    def start(self, batches: Sequence[Arguments], device: torch.device) -> None:
        super().start(batches, device)
        self._differs = set(range(len(self.passes))) if self._everywhere else set()

    def step(self, forward: Pass, call: Call | None = None) -> None:
        model, unit = self.frame.model, forward.at
        inside = set(unit.modules).intersection(self._modules) if unit else set[str]()
        if inside:
            self._differs.add(forward.batch)
        instead: dict[nn.Module, Forward] = {}
        if unit and unit.kind == BLOCK and forward.batch not in self._differs:
            output = self._walk.output_of(forward.batch)
            instead[model.get_submodule(unit.name)] = lambda *args, **named: output
        for name in inside | self._everywhere:
            instead[model.get_submodule(name)] = self._walk.module_in(name, self._modules[name])
        self._walk.instead = instead
        try:
            super().step(forward, call)
        finally:
            self._walk.instead = {}
