"""What mixes were measured to cost, kept on disk one by one: a search that was ended goes on from there, and one for
another budget measures no single swap again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import torch

from qfund.core.metrics.positions import Positions
from qfund.core.progress import Progress, Resumable
from qfund.features.layers.measure.opening import Opening
from qfund.stream.begun import digest, disk, place
from qfund.stream.disk import Disk
from qfund.stream.mixed import Mix

#: The vectors of ``Positions`` that swaps and recipes are told by.
VECTORS = ("kl", "same_top1", "chunk")


@dataclass(frozen=True, slots=True)
class Keeping:
    """``fresh``: nothing that was kept before is used."""

    disk: Disk
    fresh: bool

    @classmethod
    def asked_by(cls, progress: Progress) -> Self | None:
        """None where nobody keeps results."""
        if not isinstance(progress, Resumable):
            return None
        found = disk()
        return cls(found, progress.fresh) if found.limit else None

    def of(self, opened: Opening, also: Sequence[str]) -> "Kept":
        """Of one model, its reference and this input."""
        inputs = map(digest, opened.prepared.batches)
        return Kept(self, ("mixes", *place(opened.opened.as_read), opened.reference.name, repr(tuple(also)), *inputs))


@dataclass(frozen=True, slots=True)
class Kept:
    """Mixes of one model on one input; what they are called does not count."""

    keeping: Keeping
    key: tuple[str, ...]

    def get(self, mixes: Sequence[Mix]) -> tuple[dict[str, Positions], str | None]:
        """Those that are there, by name, and why the model was loaded whole for them, where it was."""
        found, why = dict[str, Positions](), ""
        for mix in () if self.keeping.fresh else mixes:
            read = self.keeping.disk.read(self._key(mix))
            if read is not None and set(read[0]) == set(VECTORS):
                found[mix.name] = Positions(**{name: tensor.numpy() for name, tensor in read[0].items()})
                why = read[1].get("whole", "") or why
        return found, why or None

    def put(self, mixes: Sequence[Mix], found: Mapping[str, Positions], whole: str | None) -> None:
        for mix in mixes:
            held = {name: getattr(found[mix.name], name) for name in VECTORS}
            if all(vector is not None for vector in held.values()):
                tensors = {name: torch.tensor(vector) for name, vector in held.items()}
                self.keeping.disk.write(self._key(mix), tensors, {"whole": whole or ""})

    def _key(self, mix: Mix) -> tuple[str, ...]:
        return (*self.key, msgspec.json.encode(mix.modules, order="sorted").decode())


def told(found: Positions) -> Positions:
    """The vectors that are kept, alone: what is measured says no more than what was read."""
    return Positions(**{name: getattr(found, name) for name in VECTORS})
