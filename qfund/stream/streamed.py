"""Several ways to run one model, in one walk over its checkpoint."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import OutOfBudget
from qfund.core.machine import give_back, give_back_from
from qfund.core.progress import Progress
from qfund.core.units import bytes_text
from qfund.models.environment import torch_device
from qfund.models.loading.uploading import Arriving, DeviceQueues, Uploads
from qfund.stream import head
from qfund.stream import units as stream_units
from qfund.stream.ahead import Ahead
from qfund.stream.disk import Disk
from qfund.stream.filling import Filled, made, transient
from qfund.stream.frame import Frame, Slot
from qfund.stream.groups import SMALL, Group, grouped, held
from qfund.stream.head.tiled import TiledHead
from qfund.stream.held.lanes import Lanes, SideBySide
from qfund.stream.held.sharing import alike, parted, waits
from qfund.stream.listener import Listener
from qfund.stream.passes import Pass, stops
from qfund.stream.quantized import Quantized
from qfund.stream.source import Source
from qfund.stream.units import BLOCK, EMBEDDING, HEAD, Unit
from qfund.stream.walker import Arguments, NotStreamable, Walker, Way


class Streamed:
    """A checkpoint that is walked through in several ways at once.

    Attributes:
        walkers: one for each way, in their order.
        units: what is read, run and dropped together.
        ahead: reads those of the next part where that is worth it.
        held: whether all weights stay in memory instead: then two batches at most are on their way through whole
            models, which are side by side, no weight is read or quantised twice, and hidden states are those of two
            batches. Of ways that run a few batches only, one after the other is in memory.
        reader: of the first way's weights; counts the bytes that were read.
        quantized: makes the codes, and counts what was clipped.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        ways: Sequence[Way],
        also: Sequence[str] = (),
        layers: bool = True,
        tiles: bool = True,
    ) -> None:
        """``also``: kinds of modules that quantisers convert too (``precisions.request.ALSO``). Without ``layers``,
        embeddings and single layers stay in memory; without ``tiles``, a large head gives its logits at once.

        Raises:
            CorruptCheckpoint: tensors missing or of other shapes than the architecture's.
            NothingConverted: the model has no module that a way's precision converts.
            NotStreamable: weights are tied in some of the precisions only.
        """
        self._checkpoint, self._tiles = checkpoint, tiles
        self.held, self._full = False, set[Frame]()
        self._device = torch_device()
        by_source: dict[str, list[Way]] = {}
        for way in ways:
            by_source.setdefault((way.checkpoint or checkpoint).id, []).append(way)
        # The first way's comes first, as its frames do.
        self._sources = {
            key: Source(own[0].checkpoint or checkpoint, own, tuple(also), self._device)
            for key, own in by_source.items()
        }
        self.walkers = [
            Walker(way, self._sources[(way.checkpoint or checkpoint).id].frame(way.row, way.attention)) for way in ways
        ]
        self._first = next(iter(self._sources.values()))
        self._any = self._first.any
        self.units = stream_units.find(self._any.model, layers)
        self.reader = self._first.reader
        self.quantized = Quantized(Disk())
        #: Frames that hold a small part still.
        self._there: Group | None = None
        self._uploads: Uploads | None = None
        #: Frames whose weights may be on their way to the device still.
        self._arriving = dict[Frame, Arriving]()
        for source in self._sources.values():
            source.map(unit for unit in self.units.streamed.values() if unit.kind in (BLOCK, stream_units.LAYER))
        self.ahead = Ahead(
            partial(self._made, mapped=True),
            self._beside,
            lambda: sum(row.reader.waited for row in self._sources.values()),
        )
        parts = list(self.units.streamed.values())
        #: What is read whole right after a part, in the model's order.
        self._following = {
            part.name: after for part, after in pairwise(parts) if after.kind in (BLOCK, stream_units.LAYER)
        }

    def needs(self) -> dict[str, int]:
        """Bytes that each unit takes at its peak, without hidden states: the precisions that hold it together, and what
        making them needs besides. What stays in memory is under ``""``, in every form."""
        walked = self._every_walked
        found = {"": held(self.units.resident, walked)}
        for unit in self.units.streamed.values():
            if unit.kind == HEAD and self._in_parts(unit):
                found[unit.name] = 4 * head.TILE * sum(1 + len(source.loaders) for source in self._sources.values())
            elif unit.kind == EMBEDDING and all(frame.plain_embedding(unit) for frame in walked):
                found[unit.name] = 0  # only the rows that are looked up
            else:
                groups = [Group(unit, tuple(walked))] if unit.kind == HEAD else self._groups(unit)
                found[unit.name] = max(self._as_made(group) for group in groups)
        return found

    def hold_where_small(self, limit: int) -> None:
        """Let all weights stay in memory, where those of all ways take at most ``limit`` bytes together; of a large
        head the logits are made in parts, which is for the walk."""
        every = self._every_unit
        large = self.units.head is not None and self._in_parts(self.units.head)
        self.held = not large and sum(frame.bytes(unit) for frame in self._every_walked for unit in every) <= limit

    def must_fit(self, budget: int) -> None:
        """
        Raises:
            OutOfBudget: a single unit, and what stays in memory, need more than ``budget`` bytes.
        """
        needs = self.needs()
        resident = needs.pop("")
        largest = max(needs, key=lambda name: needs[name], default="")
        needed = resident + needs.get(largest, 0)
        if needed > budget:
            what = f"its largest part, {largest}, needs" if largest else "it needs"
            raise OutOfBudget(
                f"{self._checkpoint.folder.name} is run part by part, and {what} {bytes_text(needed)} in the asked "
                f"precisions; this process may hold {bytes_text(budget)}.",
                "Choose fewer precisions or a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more "
                "memory.",
            )
        self.ahead.room = budget - needed
        if self._device.type != "cpu":  # which has nothing else to do while the device computes
            self.ahead.worth = 0.0

    def run(
        self, batches: Sequence[Arguments], listener: Listener, progress: Progress = lambda phase, share: None
    ) -> None:
        """Run every way on every batch (arguments of the model's forward).

        Raises:
            NotStreamable: the model uses weights where they are not; ``UnknownTail`` where its logits cannot be made in
                parts.
            QfundError: the checkpoint cannot be read, or a weight cannot be quantised.
        """
        if not self.held:  # inner states of a large model leave holes in the heap, a tenth of what a walk takes
            give_back_from(8 << 20)
        for walker in self.walkers:
            walker.start(batches, self._device)
            for batch in () if self.held else range(len(walker.passes)):
                walker.ready(batch)
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                stack.enter_context(torch.random.fork_rng(devices=[]))
                for source in self._sources.values():
                    stack.enter_context(source.reading())
                apart = parted(self.walkers)
                for frame in self._every_walked:
                    passed, waiting = self._after_blocks(listener), not self.held or frame in apart
                    stack.enter_context(stops(frame.model, self.units.streamed, passed, waiting))
                (self._hold if self.held else self._walk)(listener, progress)
        finally:
            give_back_from()
            self.ahead.close()
            if self._uploads is not None:
                self._uploads.close()
                self._uploads = None
            self._arriving.clear()
            for walker in self.walkers:
                walker.leave()
            self._there = None
            for source in self._sources.values():
                for frame in source.frames.values():
                    if frame not in self._full or frame not in self._every_walked:
                        self._empty(frame)

    @property
    def _every_unit(self) -> tuple[Unit, ...]:
        return (self.units.resident, *self.units.streamed.values())

    @property
    def _every_walked(self) -> list[Frame]:
        return [
            frame for source in self._sources.values() for frames in self._by_dtype(source).values() for frame in frames
        ]

    def _by_dtype(self, source: Source) -> dict[str, list[Frame]]:
        """The frames of a source's ways by base dtype, the first way's first."""
        found: dict[str, list[Frame]] = {}
        for walker in self.walkers:
            if walker.frame in source.frames.values():
                frames = found.setdefault(walker.frame.row.dtype, [])
                if walker.frame not in frames:
                    frames.append(walker.frame)
        return found

    def _after_blocks(self, listener: Listener) -> Callable[[Unit, Pass, Any], None]:
        def passed(unit: Unit, forward: Pass, output: Any) -> None:
            if unit.kind == BLOCK and (hidden := _hidden(output)) is not None:
                listener.block(unit.name, forward.way, forward.batch, hidden)

        return passed

    def _hold(self, listener: Listener, progress: Progress) -> None:
        first, every = self.walkers[0].way.name, self.walkers
        together = [walker for walker in every if walker.way.batches is None]
        begun_with = [walker for walker in every if walker in together or not waits(walker, together)]
        if not self._full.issuperset(walker.frame for walker in begun_with):
            progress("reading the weights", 0.0)
            self._fill_whole(begun_with)
        count = len(self.walkers[0].passes)
        alone = max((len(walker.passes) for walker in every if walker not in together), default=0)
        lanes, last = self.lanes, dict[str, Any]()

        def told(batch: int) -> None:
            progress(f"running batch {batch + 1} of {count}", batch / count)

        def taken(batch: int) -> None:
            outputs = self._outputs(batch, together)
            listener.output(batch, outputs)
            last.update({first: outputs[first]} if batch < alone else {})
            if batch % _TRIMMED == _TRIMMED - 1:
                give_back()

        for batch in range(alone):
            SideBySide(together, range(batch, batch + 1), lanes, taken).run(told)
            for walker in every:
                if walker not in together and batch < len(walker.passes):
                    with lanes.threaded():
                        self._alone(walker, batch)
                    listener.output(batch, last | self._outputs(batch, [walker]))
                    if walker.frame not in {other.frame for other in together}:
                        self._empty(walker.frame)
                    give_back(sum(map(walker.frame.bytes, self._every_unit)))
            last.clear()
        SideBySide(together, range(alone, count), lanes, taken).run(told)

    @property
    def lanes(self) -> Lanes:
        """In which the models of the next run that go through all batches are side by side, where all weights are
        held."""
        models = sum(walker.way.batches is None for walker in self.walkers) if self.held else 1
        return Lanes.of(models, self._device)

    def _alone(self, walker: Walker, batch: int) -> None:
        """Let the forwards of a batch of a way that runs a few go through."""
        if walker.frame in parted(self.walkers):
            self._part_by_part(walker, batch)
        else:
            self._fill_whole([walker])
            walker.through(batch)

    def _part_by_part(self, walker: Walker, batch: int) -> None:
        """Let the forwards of a batch go through a model of which one part is in memory at a time."""
        every, self.walkers = self.walkers, [walker]
        try:
            self._fill_all(self.units.resident)
            walker.through(batch)
            while unit := next((forward.at for forward in walker.passes[batch] if forward.at), None):
                self._through(unit)
        finally:
            self._clear()
            self.walkers = every

    def _fill_whole(self, walkers: list[Walker]) -> None:
        """Let the frames of these hold all of their weights; where another one holds the same, those very tensors."""
        for walker in walkers:
            twin = next((frame for frame in self._full if alike(frame, walker.frame)), None)
            if twin is not None and walker.frame not in self._full:
                for name, slot in walker.frame.every_slot.items():
                    slot.put(twin.every_slot[name].tensor)
                self._full.add(walker.frame)
        every, places = self.walkers, dict[Frame, list[tuple[Slot, Tensor]]]()
        self.walkers = [walker for walker in walkers if walker.frame not in self._full]
        try:
            for unit in self._every_unit if self.walkers else ():
                self._fill_all(unit)
                for frame in self._every_walked:
                    places.setdefault(frame, []).extend((slot, slot.tensor) for slot in frame.slots(unit))
        finally:
            self.walkers = every
        for frame, own in places.items():  # once more: loading a unit clears those elsewhere that are tied to it
            owned = dict[str, Tensor]()
            for slot, tensor in own:
                slot.put(owned.setdefault(slot.owner, tensor))
            self._full.add(frame)

    def _empty(self, frame: Frame) -> None:
        for slot in frame.every_slot.values():
            slot.clear()
        self._full.discard(frame)

    def _walk(self, listener: Listener, progress: Progress) -> None:
        steps, done = len(self.units.streamed) + 1, set[str]()
        self.ahead.start()
        progress("reading what stays in memory", 0.0)
        self._fill_all(self.units.resident)
        for walker in self.walkers:
            for forward in walker.every_pass:
                walker.step(forward)
        while unit := next(
            (forward.at for walker in self.walkers for forward in walker.every_pass if forward.at), None
        ):
            done.add(unit.name)
            self.ahead.only(self._groups(unit)[0])
            progress(f"running {unit.name}", len(done) / steps)
            if unit.kind == HEAD and all(
                forward.at is unit for walker in self.walkers for forward in walker.every_pass
            ):
                self._at_the_head(unit, listener)
                return
            self._through(unit)
        for batch in range(len(self.walkers[0].passes)):
            listener.output(batch, self._outputs(batch, self.walkers))

    def _outputs(self, batch: int, walkers: Iterable[Walker]) -> dict[str, Any]:
        return {walker.way.name: walker.output(batch) for walker in walkers if batch < len(walker.passes)}

    def _waiting(self, unit: Unit, frame: Frame) -> Iterable[tuple[Walker, Pass]]:
        walkers = (walker for walker in self.walkers if walker.frame is frame)
        return [(walker, forward) for walker in walkers for forward in walker.every_pass if forward.at is unit]

    def _through(self, unit: Unit) -> None:
        """Let all forwards that wait before this unit go through it, and drop its weights."""
        if unit.kind == EMBEDDING and self._looked_up(unit):
            return
        groups = self._groups(unit)
        for group in groups:
            self._fill(group, later=True)
            if group is groups[-1] and (after := self._following.get(unit.name)):
                self.ahead.begin(self._groups(after)[0])
            for frame in group.frames:
                self._here(frame)
                for walker, forward in self._waiting(unit, frame):
                    walker.step(forward)
                if group.bytes > SMALL:
                    frame.clear(unit)
                    give_back(frame.bytes(unit))
            if group.bytes > SMALL:
                self._there = None

    def _looked_up(self, unit: Unit) -> bool:
        """Go through an embedding by those of its rows alone that are asked for; False where that cannot be done."""
        waiting = [pair for frame in self._every_walked for pair in self._waiting(unit, frame)]
        ids = [forward.call[0][0] if forward.call[0] else None for _, forward in waiting]
        if not all(isinstance(part, Tensor) and not part.is_floating_point() for part in ids):
            return False
        if not all(walker.frame.plain_embedding(unit) for walker, _ in waiting):
            return False
        tokens = torch.cat([part.flatten() for part in ids if part is not None]).unique()
        rows = {
            key: source.reader.rows(source.any.slots(unit)[0], tokens.cpu()) for key, source in self._sources.items()
        }
        if any(part is None for part in rows.values()):
            return False
        for frame in self._every_walked:
            (slot,) = frame.slots(unit)
            part = rows[frame.checkpoint.id]
            assert part is not None
            slot.put_rows(part.to(self._device, slot.empty.dtype))
            for walker, forward in self._waiting(unit, frame):
                (given, *rest), named = forward.call
                walker.step(forward, ((torch.searchsorted(tokens, given.contiguous()), *rest), named))
            slot.clear()
        return True

    def _groups(self, unit: Unit) -> list[Group]:
        """Which frames hold a unit together: as many as the ``_limit`` allows, since the unit is read for each group.
        Where reading waits for a disk, as many as there is room for."""
        walked, limit = self._every_walked, self._limit(unit)
        if self.ahead.waits:
            room = self.ahead.room
            limit = held(unit, walked) if room is None else limit + max(0, (room - limit) // 2)  # for the next one too
        return grouped(unit, walked, limit)

    def _limit(self, unit: Unit) -> int:
        """The largest alone; of one that is mapped and takes nothing, half, which is that of a dtype half as wide."""
        return max(SMALL, *(max(frame.private(unit), frame.bytes(unit) // 2) for frame in self._every_walked))

    def _fill_all(self, unit: Unit) -> None:
        self._put(Group(unit, tuple(self._every_walked)), self._made)

    def _fill(self, group: Group, later: bool = False) -> None:
        """Let these frames hold the unit, and no others that hold a small one still; ``later`` as in ``_put``."""
        if self._there != group:
            self._clear()
            self._put(group, self.ahead.take, later)
            self._there = group

    def _clear(self) -> None:
        if self._there is not None:
            for frame in self._there.frames:
                frame.clear(self._there.unit)
            self._there = None

    def _put(self, group: Group, make: Callable[[Group], Filled], later: bool = False) -> None:
        """``later``: weights may be on their way to a device, and who runs a frame waits until they are ``_here``."""
        found = make(group)
        for frame in group.frames:
            frame.fill(group.unit, self._placed(frame, found.pop(frame)))
        for frame in () if later else group.frames:
            self._here(frame)

    def _here(self, frame: Frame) -> None:
        if (coming := self._arriving.pop(frame, None)) is not None:
            coming.wait()

    def _made(self, group: Group, mapped: bool = False) -> Filled:
        """What these frames hold of a unit; ``mapped`` as for ``made``."""
        found: Filled = {}
        with torch.inference_mode():  # also in a thread of its own
            for source, frames in self._by_source(group):
                found |= made(source, group.unit, frames, self.quantized, mapped)
        return found

    def _as_made(self, group: Group) -> int:
        """Bytes that a group takes while it is made, and then: sources have their turns."""
        besides = [transient(source, group.unit, frames) for source, frames in self._by_source(group)]
        return group.bytes + max(besides, default=0)

    def _beside(self, group: Group) -> int:
        """Bytes that a group takes that is made while another one runs, beside what the usual walk needs."""
        there = self._there
        return self._as_made(group) + (max(0, there.bytes - self._limit(there.unit)) if there else 0)

    def _by_source(self, group: Group) -> Iterator[tuple[Source, list[Frame]]]:
        for key, source in self._sources.items():
            if frames := [frame for frame in group.frames if frame.checkpoint.id == key]:
                yield source, frames

    def _placed(self, frame: Frame, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """On the device that computes, or on their way there."""
        if self._device.type == "cpu":
            return tensors
        self._uploads = self._uploads or Uploads(DeviceQueues(self._device))
        self._arriving[frame] = coming = self._uploads.begin(tensors)
        return coming.tensors

    @contextmanager
    def filled(self, frame: Frame, module: str) -> Iterator[None]:
        """The weights of the part that this module is in, while the block runs."""
        unit = next(unit for unit in self._every_unit if module in unit.modules)
        with torch.inference_mode(), self._sources[frame.checkpoint.id].reader:
            self._put(Group(unit, (frame,)), self._made)
        try:
            yield
        finally:
            frame.clear(unit)

    def _at_the_head(self, unit: Unit, listener: Listener) -> None:
        """The last step: whole logits of one batch at a time, or of all batches a part of the vocabulary at a time."""
        self._clear()
        if self._in_parts(unit):
            for part in TiledHead(unit, self._sources, self.walkers, self._device).logits():
                listener.tile(*part)
            return
        self._fill_all(unit)
        for batch in range(len(self.walkers[0].passes)):
            for walker in self.walkers:
                for forward in walker.passes[batch] if batch < len(walker.passes) else ():
                    walker.step(forward)
                    if forward.at is not None:
                        raise NotStreamable(f"it goes on to {forward.at.name} after its head")
            listener.output(batch, self._outputs(batch, self.walkers))

    def _in_parts(self, unit: Unit) -> bool:
        """Whether a head is so large that its logits are made a part of the vocabulary at a time."""
        if not self._tiles:
            return False
        weight = next(slot for slot in self._any.slots(unit) if slot.key == "weight")
        return weight.empty.numel() > head.WHOLE and not any(frame.quantized(unit) for frame in self._every_walked)


#: After so many batches what they left is given back: after each it takes 4 % of the time, never lets the heap grow by
#: 16 MiB a batch.
_TRIMMED = 4


def _hidden(output: Any) -> Tensor | None:
    """The first tensor of a block's output, where it is of floats: its hidden states."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None
