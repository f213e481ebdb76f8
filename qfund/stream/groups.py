"""Which precisions hold a part of a model at the same time, and what that takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qfund.stream.frame import Frame
from qfund.stream.units import Unit

#: Bytes of a part in all precisions together up to which they are held at once, and stay until the next part comes.
SMALL = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that hold a unit together, filled from one reading of it."""

    unit: Unit
    frames: tuple[Frame, ...]

    @property
    def bytes(self) -> int:
        """That they hold: what two share once, and nothing for what is mapped."""
        return held(self.unit, self.frames)


def held(unit: Unit, frames: Iterable[Frame]) -> int:
    """Bytes of a unit in these frames, but for what is mapped. Those of one precision share what they hold, and casts
    to one dtype too."""
    alike = {(frame.checkpoint.id, frame.row.name if frame.conversion else frame.row.dtype): frame for frame in frames}
    return sum(frame.private(unit) for frame in alike.values())


def grouped(unit: Unit, frames: Sequence[Frame], limit: int) -> list[Group]:
    """The frames in few groups that each hold at most ``limit`` bytes, or one frame. The first frame is the first of
    the first group, and of the others the largest come first, and are the first to be run and dropped: what the codes
    of a small one take while they are dequantised comes when a group holds least."""
    found: list[list[Frame]] = []
    for frame in [*frames[:1], *sorted(frames[1:], key=lambda frame: -frame.private(unit))]:
        place = next((group for group in found if held(unit, [*group, frame]) <= limit), None)
        if place is None:
            found.append([frame])
        else:
            place.append(frame)
    return [Group(unit, tuple(group)) for group in found]
