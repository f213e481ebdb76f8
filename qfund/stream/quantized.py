"""Quantised weights of a unit: made once, and kept on disk for the next time."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from qfund.precisions.precision import Precision
from qfund.stream.disk import Disk

Stored = dict[str, Tensor]
#: By the name of a weight's first place in the model: what is stored of it, and how many of its values were clipped.
Codes = dict[str, tuple[Stored, int]]


class Quantized:
    """The codes of several precisions.

    Attributes:
        saturated: precision → weight → how many of its values were clipped; those with none are not listed.
    """

    def __init__(self, disk: Disk) -> None:
        self.saturated: dict[str, dict[str, int]] = {}
        self._disk = disk

    def kept(self, row: Precision, unit: str, names: Iterable[str], checkpoint: str) -> Codes | None:
        """The codes of these weights (all that the row quantises in the unit) of the checkpoint with that id, where
        they are on disk."""
        kept = self._disk.read(self._key(row, unit, names, checkpoint)) if self._disk.limit else None
        if kept is None:
            return None
        found: Codes = {name: ({}, int(kept[1].get(name, 0))) for name in names}
        for place, tensor in kept[0].items():
            name, _, part = place.rpartition(":")
            found[name][0][part] = tensor
        self._count(row, found)
        return found

    def keep(self, row: Precision, unit: str, found: Codes, checkpoint: str) -> None:
        """Take these into account, and write them to disk where there is room."""
        self._count(row, found)
        if self._disk.limit:
            flat = {f"{name}:{part}": tensor for name, (stored, _) in found.items() for part, tensor in stored.items()}
            clipped = {name: str(count) for name, (_, count) in found.items() if count}
            self._disk.write(self._key(row, unit, found, checkpoint), flat, clipped)

    def _key(self, row: Precision, unit: str, names: Iterable[str], checkpoint: str) -> tuple[str, ...]:
        return checkpoint, str(row.quantizer), row.dtype, unit, *names

    def _count(self, row: Precision, found: Mapping[str, tuple[Stored, int]]) -> None:
        for name, (_, count) in found.items():
            if count:
                self.saturated.setdefault(row.name, {})[name] = count
