"""A head so large that its logits are made a part of the vocabulary at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qfund.stream import head
from qfund.stream.source import Source
from qfund.stream.units import Unit
from qfund.stream.walker import NotStreamable, UnknownTail, Walker

#: By source and base dtype, weight [part, width] and bias [part] of a part of the head.
Part = Mapping[tuple[str, str], tuple[Tensor, Tensor | None]]

_PROBED = 4  # positions


class TiledHead:
    """The head before which every forward of the walkers waits. ``sources`` by their checkpoints' ids."""

    def __init__(
        self, unit: Unit, sources: Mapping[str, Source], walkers: Sequence[Walker], device: torch.device
    ) -> None:
        self._unit, self._sources = unit, sources
        self._walkers, self._device = walkers, device

    def logits(self) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
        """Batch, first token, the vocabulary's size, and by way logits [examples, positions, part] (a list with those
        of each example, where a way runs them singly): each part for all batches before the next.

        Raises:
            UnknownTail: the model does with its head what is nothing known.
        """
        calls = [forward.call for walker in self._walkers for forward in walker.every_pass]
        if not all(args and not named for args, named in calls):
            raise UnknownTail("its head is called in an unknown way")
        hidden = {walker.way.name: walker.given() for walker in self._walkers}
        tails = self._tails({name: batches[0][0][:1, :_PROBED] for name, batches in hidden.items()})
        for walker in self._walkers:  # what else they hold is not needed any more
            walker.leave()
        for start, vocabulary, part in self._parts():
            for batch in range(len(hidden[self._walkers[0].way.name])):
                logits: dict[str, Any] = {}
                for walker in self._walkers:
                    name = walker.way.name
                    if batch < len(hidden[name]):
                        with walker.running():
                            made = [tails[name](_product(walker, states, part)) for states in hidden[name][batch]]
                        logits[name] = made if walker.way.singly else made[0] if len(made) == 1 else torch.cat(made, 1)
                yield batch, start, vocabulary, logits

    def _parts(self) -> Iterable[tuple[int, int, Part]]:
        """First token, the vocabulary's size, and weights of each part."""
        any_frame = next(iter(self._sources.values())).any
        vocabulary, width = next(slot for slot in any_frame.slots(self._unit) if slot.key == "weight").empty.shape
        for start, end in head.tiles(vocabulary, width):
            parts: dict[tuple[str, str], tuple[Tensor, Tensor | None]] = {}
            for key, source in self._sources.items():
                weight, bias = self._rows(source, torch.arange(start, end))
                for name, loader in source.loaders.items():
                    dtypes = {slot.key: slot.empty.dtype for slot in loader.slots(self._unit)}
                    parts[key, name] = (
                        weight.to(self._device, dtypes["weight"]),
                        None if bias is None else bias.to(self._device, dtypes["bias"]),
                    )
            yield start, vocabulary, parts

    def _rows(self, source: Source, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as stored.

        Raises:
            UnknownTail: they are not stored as they are used.
        """
        slots = {slot.key: slot for slot in source.any.slots(self._unit)}
        weight = source.reader.rows(slots["weight"], rows)
        bias = source.reader.rows(slots["bias"], rows) if "bias" in slots else None
        if weight is None or (bias is None and "bias" in slots):
            raise UnknownTail("its head is not stored as it is used")
        return weight, bias

    def _tails(self, hidden: Mapping[str, Tensor]) -> dict[str, head.Tail]:
        """What each way does with its head's output, tried out on a few positions of its first forward, which ends with
        that: the first part of the vocabulary stands for all others, since what is looked for is elementwise.

        Raises:
            UnknownTail: it is nothing known.
        """
        _, vocabulary, part = next(iter(self._parts()))
        found: dict[str, head.Tail] = {}
        for walker in self._walkers:
            with walker.running():
                product = _product(walker, hidden[walker.way.name], part)
            tokens = torch.arange(vocabulary, device=product.device) % product.shape[-1]
            found[walker.way.name] = self._tail(walker, product[..., tokens])
        return found

    def _tail(self, walker: Walker, before: Tensor) -> head.Tail:
        first = walker.every_pass[0]
        try:
            walker.answer(first, self._unit, before)
        except NotStreamable as error:
            raise UnknownTail(str(error)) from error
        logits = getattr(first.output, "logits", None)
        tail = head.find_tail(walker.frame.model.config, before, logits) if isinstance(logits, Tensor) else None
        if tail is None:
            raise UnknownTail("what it does with its head's output is unknown")
        return tail


def _product(walker: Walker, hidden: Tensor, parts: Part) -> Tensor:
    """What a part of the head gives: [examples, positions, part]."""
    weight, bias = parts[walker.frame.checkpoint.id, walker.way.row.dtype]
    if walker.way.row.head:
        wide = getattr(torch, walker.way.row.head)
        hidden, weight, bias = hidden.to(wide), weight.to(wide), None if bias is None else bias.to(wide)
    product: Tensor = nn.functional.linear(hidden, weight, bias)
    return product
