"""Who is told what the models of a walk give."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from qfund.stream.walker import Way


class Listener(Protocol):
    """Whoever takes in what the models give. The first way comes first, at every block and in every mapping.

    Where all weights stay in memory, ways are side by side in several threads: blocks of several ways may come at once,
    and those of a batch before the last ones of the batch before; outputs come one batch after the other.

    Where a way runs the examples of a batch singly, a list with one output an example stands for its output.
    """

    def block(self, name: str, way: Way, batch: int, hidden: Tensor) -> None:
        """The hidden states after a block."""

    def output(self, batch: int, outputs: Mapping[str, Any]) -> None:
        """What the model gave for a batch, by way. Where all weights stay in memory, ways that run a few batches only
        come after the others, each by itself and with the first way's output once more."""

    def tile(self, batch: int, start: int, vocabulary: int, logits: Mapping[str, Any]) -> None:
        """In place of ``output``: logits [examples, positions, tile] of a batch from token ``start`` of the vocabulary
        on, by way. Each tile comes for all batches before the next."""
