"""GGUF types where an importance matrix is given: what llama-quantize makes with ``--imatrix``."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from qfund.core.errors import UnsupportedModel
from qfund.precisions.gguf_names import gguf_name
from qfund.precisions.importance import Importance
from qfund.precisions.precision import GGUF, Precision
from qfund.precisions.quantizers.ggml.blocks import Blocks
from qfund.precisions.quantizers.ggml.mixes import Mix
from qfund.precisions.quantizers.ggml.search import Floats, total
from qfund.precisions.quantizers.quantizer import quantizer_of

#: Type → the mean square of a block that counts beside each weight's own, in its multiples; others have one of the row.
_OF_BLOCK = {"Q2_K": 1.0, "Q3_K": 2.0, "Q4_K": 2.0, "Q5_K": 2.0, "IQ4_NL": 2.0, "IQ4_XS": 2.0}
_EMBEDDINGS = "token_embd.weight"
_REMEDY = "Name one that llama-imatrix made of this model."


@dataclass(frozen=True, slots=True)
class Weighted(Blocks):
    """A type of ggml for one weight whose inputs are known.

    Attributes:
        given: [matrices, columns] float32, the mean square of each input; one row, or one for each of stacked experts.
        of: which it is, for whoever tells quantisers apart.
    """

    given: Floats = field(compare=False, repr=False)
    of: str

    def costs(self, values: Floats, kind: Blocks) -> Floats | None:
        """The input's mean square times √(σ² + x²), as llama-quantize weights errors; of Q6_K without the root."""
        if kind.name in ("Q8_0", "F16") or not values.size:
            return None
        rows, columns = values.shape
        inputs = np.repeat(self.given, rows // len(self.given), axis=0)
        if kind.name == "Q6_K":
            return inputs
        span = kind.size if kind.name in _OF_BLOCK else columns
        # Summed in the order of ggml's loops, a weight of all blocks at a time.
        parts = np.ascontiguousarray(values.reshape(-1, span).T)
        mean = np.float32(_OF_BLOCK.get(kind.name, 1.0)) * total(parts * parts) / np.float32(span)
        found: Floats = inputs * np.sqrt(mean.repeat(span).reshape(rows, columns) + values * values)
        return found

    def by_rows(self, columns: int) -> bool:
        return len(self.given) == 1


@dataclass(frozen=True, slots=True)
class WeightedFile:
    """A GGUF row made with an importance matrix. Weights of which that says nothing are rounded without it."""

    base: Blocks | Mix
    importance: Importance

    @property
    def element(self) -> str:
        return self.base.element

    def choose(self, model: nn.Module, names: Sequence[Sequence[str]], columns: Sequence[int]) -> list[Blocks]:
        """As the row's own, with what is known of each weight's inputs.

        Raises:
            UnsupportedModel: the importance matrix is of another model.
        """
        chosen = self.base.choose(model, names, columns)
        if not any(self._known(shared[0]) for shared in names):
            raise UnsupportedModel("The importance matrix knows none of this model's weights.", _REMEDY)
        return [
            self._with(kind, shared[0], model.get_parameter(shared[0]), count)
            for kind, shared, count in zip(chosen, names, columns, strict=True)
        ]

    def said(self, names: Sequence[str]) -> str:
        """Of which weights it knows the inputs, in a sentence."""
        unknown = [name for name in names if not self._known(name)]
        read = ", ".join(self.importance.datasets)
        chunks = [] if self.importance.chunks is None else [f"{self.importance.chunks:,} chunks"]
        of = f" ({' of '.join([*chunks, *([read] if read else [])])})" if chunks or read else ""
        without = f"; {unknown[0]} {_more(unknown)}, which it does not know, without it" if unknown else ""
        return f"Rounded with an importance matrix{of}{without}."

    def _known(self, name: str) -> bool:
        return self.importance.of(gguf_name(name) or name) is not None

    def _with(self, kind: Blocks, name: str, weight: Tensor, columns: int) -> Blocks:
        called = gguf_name(name) or name
        given = self.importance.of(called)
        if given is None:
            return kind
        inputs = columns * (len(weight) if weight.dim() > 2 else 1)  # of each of stacked experts
        if given.size != inputs:
            if called == _EMBEDDINGS:
                return kind
            raise UnsupportedModel(
                f"The importance matrix has {given.size:,} numbers for {called}, which has {inputs:,} inputs: it is of "
                "another model.",
                _REMEDY,
            )
        return Weighted(kind.name, given.reshape(-1, columns), f"{self.importance.id} {called}")


def _more(names: Sequence[str]) -> str:
    return f"and {len(names) - 1:,} more" if names[1:] else "alone"


def weighted(row: Precision, importance: Importance) -> Precision:
    """A GGUF row as llama-quantize makes it with this importance matrix; any other row as it is."""
    if row.family != GGUF:
        return row
    base: Any = quantizer_of(row)
    return replace(
        row, quantizer=WeightedFile(replace(base, weighted=True) if isinstance(base, Mix) else base, importance)
    )
