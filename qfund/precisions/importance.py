"""An importance matrix: the mean square of every input of every matrix, which llama-quantize weights errors by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Importance:
    """
    Attributes:
        id: of the file's content.
        entries: name of a weight in a GGUF file → [matrices · inputs] float32.
        chunks: texts that were read for it; None where the file does not say.
        datasets: files that these are of, as it names them.
    """

    id: str
    entries: "Mapping[str, NDArray[np.float32]]" = field(compare=False, repr=False)
    chunks: int | None = None
    datasets: tuple[str, ...] = ()

    def of(self, weight: str) -> "NDArray[np.float32] | None":
        """What is known of a weight's inputs; of gates and ups that a model stacks, what is known of one of them."""
        for name in (weight, *(weight.replace("gate_up", part) for part in ("gate", "up") if "gate_up" in weight)):
            if name in self.entries:
                return self.entries[name]
        return None
