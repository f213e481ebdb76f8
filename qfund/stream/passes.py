"""Forwards that stop before every unit: coroutines in one thread, so that all precisions walk in step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import nn

from qfund.stream.units import Unit

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Pass(greenlet):
    """One model's forward of one batch, ``batch`` its number and ``way`` whose it is.

    Attributes:
        at: the unit before which it waits; None before its start and after its end.
        call: what the unit is called with: positional and named arguments.
        output: what the model gave, after the end.
        drew: whether it drew random numbers.
    """

    def __init__(self, forward: Callable[[], Any], batch: int, way: Any) -> None:
        super().__init__(self._go)
        self.batch, self.way = batch, way
        self.at: Unit | None = None
        self.call: Call = ((), {})
        self.output: Any = None
        self.drew = False
        self._forward = forward
        # A model that draws random numbers even in evaluation (ViT-MAE's mask) draws the same in every precision.
        self._random = torch.Generator().manual_seed(0).get_state()

    def step(self, call: Call | None = None) -> None:
        """Go on to the next stop, or to the end; ``call`` replaces what the unit is called with.

        Raises whatever the model raises.
        """
        torch.set_rng_state(self._random)
        self.switch(call)
        after = torch.get_rng_state()
        self.drew = self.drew or not torch.equal(after, self._random)
        self._random = after

    def leave(self) -> None:
        """End it where it is."""
        if self and not self.dead:
            self.throw(GreenletExit)

    def wait(self, unit: Unit, call: Call) -> Call | None:
        """Stop before ``unit``; what it is to be called with instead, if anything."""
        self.at, self.call = unit, call
        assert self.parent is not None
        answer: Call | None = self.parent.switch()
        self.at, self.call = None, ((), {})
        return answer

    def _go(self, _: object) -> None:
        self.output = self._forward()


@contextmanager
def stops(
    model: nn.Module,
    units: Mapping[str, Unit],
    passed: Callable[[Unit, Pass, Any], None] | None = None,
    waiting: bool = True,
) -> Iterator[None]:
    """While the block runs, every ``Pass`` through the model waits before each of these units, unless none shall be
    ``waiting``; after one, ``passed`` is called with its output."""

    def before(unit: Unit) -> Callable[..., Call | None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
            current = getcurrent()
            return current.wait(unit, (args, kwargs)) if isinstance(current, Pass) else None

        return hook

    def after(unit: Unit) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            current = getcurrent()
            if passed is not None and isinstance(current, Pass):
                passed(unit, current, output)

        return hook

    handles = []
    for name, unit in units.items():
        module = model.get_submodule(name)
        if waiting:
            handles.append(module.register_forward_pre_hook(before(unit), with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(after(unit)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
