"""What one precision holds of a unit, taken from base weights as they come."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from qfund.core.errors import about
from qfund.precisions.quantizers import pieces
from qfund.precisions.quantizers.plan import Weight
from qfund.precisions.quantizers.quantizer import Quantizer
from qfund.stream.frame import Frame
from qfund.stream.quantized import Quantized, Stored
from qfund.stream.units import Unit


class Making:
    """
    Attributes:
        frame: any of those in this precision.
        held: what was made so far, by the names of its slots.
    """

    def __init__(self, frame: Frame, unit: Unit, quantized: Quantized) -> None:
        self.frame, self.held = frame, dict[str, Tensor]()
        self._unit, self._quantized, self._made = unit, quantized, dict[str, tuple[Stored, int]]()
        groups = frame.quantized(unit)
        kept = quantized.kept(frame.row, unit.name, groups, frame.checkpoint.id) if groups else None
        #: A weight's first place here → its name, all of its places, and its quantiser; of those that are to be made.
        self.wanted: dict[str, tuple[str, list[Weight], Quantizer]] = {}
        for name, places in groups.items():
            assert frame.conversion is not None
            if kept is None:
                self.wanted[places[0].name] = name, places, frame.conversion.quantizers[name]
            else:
                self._put(places, kept[name][0])
        self._slots = {slot.name for slot in frame.slots(unit)}

    def holds(self, names: Iterable[str]) -> bool:
        """Whether it holds the weight with these names as it is."""
        return not self._slots.isdisjoint(names)

    def coded(self, names: Iterable[str]) -> str | None:
        """Of the weight with these names, the one under which it is ``wanted``."""
        return next((name for name in names if name in self.wanted), None)

    def take(self, base: Mapping[str, Tensor]) -> None:
        """Whole base weights by their names, in the dtypes of this precision's base.

        Raises:
            CorruptCheckpoint: a value that is quantised is not finite.
        """
        self.take_as_it_is(base)
        for name in self.wanted.keys() & base.keys():
            first, places, quantizer = self.wanted[name]
            with about(self.frame.row.name):
                self.put(name, *pieces.quantize(first, base[name], places[0].view, quantizer))

    def take_as_it_is(self, base: Mapping[str, Tensor]) -> None:
        """Of whole base weights those that are not quantised."""
        self.held |= {name: tensor for name, tensor in base.items() if name in self._slots}

    def put(self, name: str, stored: Stored, clipped: int) -> None:
        """The codes of one of ``wanted``."""
        first, places, _ = self.wanted[name]
        self._made[first] = stored, clipped
        self._put(places, stored)

    def done(self) -> None:
        """All has come."""
        if self._made:
            self._quantized.keep(self.frame.row, self._unit.name, self._made, self.frame.checkpoint.id)

    def _put(self, places: Iterable[Weight], stored: Stored) -> None:
        self.held |= {f"{place.name}_{part}": tensor for place in places for part, tensor in stored.items()}
