"""One checkpoint of a walk: the frames that its weights fill, and who reads them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS
from qfund.stream.frame import Frame
from qfund.stream.reader import Reader
from qfund.stream.units import Unit
from qfund.stream.walker import NotStreamable, Way


class Source:
    """
    Attributes:
        frames: by precision and attention.
        loaders: frames of casts, by base dtype: the weights of each base dtype are loaded by one.
        any: one of the loaders.
    """

    def __init__(self, checkpoint: Checkpoint, ways: list[Way], also: tuple[str, ...], device: torch.device) -> None:
        """``ways`` are those that run this checkpoint's weights. Raises as ``Frame``; ``NotStreamable`` where weights
        are tied in some of the precisions only."""
        self._checkpoint, self._also, self._device = checkpoint, also, device
        self.frames: dict[tuple[str, str | None], Frame] = {}
        for way in ways:
            self.frame(way.row, way.attention)
        self.loaders = {way.row.dtype: self.frame(_cast(way.row.dtype), None) for way in ways}
        self.any = next(iter(self.loaders.values()))
        if any(frame.tied != self.any.tied for frame in self.frames.values() if frame.conversion is None):
            raise NotStreamable("what it ties is equal in some of the precisions only")
        self.reader = Reader(checkpoint, self.any)

    def map(self, units: Iterable[Unit]) -> None:
        """Let every frame hold what it can of these units where it lies in its file, where the processor computes."""
        units = list(units) if self._device.type == "cpu" else []
        for frame in self.frames.values():
            slots = [slot for unit in units for slot in frame.slots(unit)]
            frame.mapped = {slot.name for slot in slots if self.reader.may_be_mapped(slot)}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While the block runs its files are open, and the pages of what is mapped go with each layer that has run."""
        with self.reader, ExitStack() as stack:
            for frame in self.frames.values():
                stack.enter_context(self.reader.mappings.one_at_a_time(frame.model, frame.mapped))
            yield

    def frame(self, row: Precision, attention: str | None) -> Frame:
        key = row.name, attention
        if key not in self.frames:
            self.frames[key] = Frame(self._checkpoint, row, self._also, self._device, attention)
        return self.frames[key]


def _cast(dtype: str) -> Precision:
    return next(row for row in PRECISIONS.values() if row.dtype == dtype and not row.quantizer)
