"""One tensor of a quantised file: what it says, and how to make numbers of any of its rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a plan of headers does without
    import numpy as np
    from numpy.typing import NDArray

#: First row and the one behind the last → float32 [rows, …]: the rows as a whole decode would give them, bit for bit.
Decode = Callable[[int, int], "NDArray[np.float32]"]


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A weight (or a norm, a bias, …) as a file holds it.

    Attributes:
        name: of the weight, as transformers' checkpoints have it (``"model.layers.0.mlp.up_proj.weight"``); a format
            with names of its own (GGUF) has those, until ``QuantizedFile.bound``.
        shape: as decoded, output channels first.
        type: how it is stored, in the format's words: ``"Q4_K"``, ``"int4 g128"``, ``"BF16"``.
        bytes: in the file, everything that only this tensor needs (scales, zero-points, orders of columns) included.
        decode: makes numbers of some rows; a scalar is one row. Raises ``ModelNotFound`` when the file is gone and
            ``CorruptCheckpoint`` for codes that stand for nothing.
        quantized: whether it holds codes; false for a tensor of plain floats.
        parts: the file's own tensors that it is made of: equal ones mean the same bytes.
        by_rows: whether some rows take less than all to decode; false where they lie across each other.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int
    decode: Decode = field(compare=False, repr=False)
    quantized: bool = True
    parts: tuple[str, ...] = ()
    by_rows: bool = True

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bits(self) -> float:
        """Per weight, scales included."""
        return 8 * self.bytes / self.elements if self.elements else 0.0

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    def values(self) -> "NDArray[np.float32]":
        """All of it."""
        return self.decode(0, self.rows).reshape(self.shape)
