"""Matrices that a quantiser leaves as they are, in words: those besides the output head and embeddings, which stay
unless they are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass

from qfund.core.tensors import LeftModule, TensorRow
from qfund.core.units import bytes_text
from qfund.precisions.precision import BASES

#: Share of the matrices' bytes from which on it is said.
FEW = 0.03
#: How the reasons begin of what stays unless it is asked for.
BY_RULE = ("the output head", "an embedding")
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Unconverted:
    """
    Attributes:
        bytes: of the matrices that stay; ``share`` of what all matrices would take in that dtype.
        dtype: of the largest of them, which is ``largest``, of ``largest_bytes``; ``others`` are there besides.
    """

    bytes: int
    share: float
    dtype: str
    largest: LeftModule
    largest_bytes: int
    others: int

    @property
    def phrase(self) -> str:
        """``98 % of the bytes of its matrices (360 GiB) stay in FP32: layers.0.experts (7.5 GiB: …) and 47 more``."""
        more = f" and {self.others:,} more" if self.others else ""
        return (
            f"{100 * self.share:.3g} % of the bytes of its matrices ({bytes_text(self.bytes)}) stay in "
            f"{BASES.get(self.dtype, self.dtype)}: {self.largest.name} ({bytes_text(self.largest_bytes)}: "
            f"{self.largest.why.partition(', so ')[0]}){more}"
        )


def unconverted(tensors: Iterable[TensorRow], left: Iterable[LeftModule]) -> Unconverted | None:
    """None where it is not worth a word, or nothing was to be converted."""
    modules = {module.name: module for module in left if not module.why.startswith(BY_RULE)}
    stay: dict[str, int] = {}
    dtypes: dict[str, str] = {}
    converted = 0
    for row in tensors:
        if row.kind != "weight" or row.shared_with:
            continue
        name = row.name.rpartition(".")[0]
        if row.dtype != row.logical:
            converted += row.parameters * _BYTES.get(row.logical, 4)
        elif name in modules and len(row.shape) > 1 and row.shape[0] > 1:  # the first is 1 of a table of positions
            stay[name] = stay.get(name, 0) + row.bytes
            dtypes[name] = row.dtype
    total = sum(stay.values())
    if not converted or total <= FEW * (total + converted):
        return None
    largest = max(stay, key=stay.__getitem__)
    return Unconverted(
        total, total / (total + converted), dtypes[largest], modules[largest], stay[largest], len(stay) - 1
    )
