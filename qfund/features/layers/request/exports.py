"""A recipe as a checkpoint that others load: which rows its format holds, and what came of reading it again."""

from collections.abc import Iterable
from dataclasses import dataclass

from qfund.core.errors import InvalidSpec
from qfund.core.estimate import Estimate
from qfund.precisions.precision import INTEGER, Precision
from qfund.precisions.table import PRECISIONS

#: The method's name in ``config.json``, and the layout of its weights.
METHOD, LAYOUT = "compressed-tensors", "pack-quantized"


@dataclass(frozen=True, slots=True)
class Integers:
    """What the format says of a row: ``bits`` per code, ``group`` neighbours of a row share a scale (None: all)."""

    bits: int
    group: int | None

    @property
    def settings(self) -> dict[str, object]:
        """Of the weights of a group of modules, in ``config.json`` and in llm-compressor's recipes."""
        shared: dict[str, object] = {"num_bits": self.bits, "type": "int", "symmetric": True}
        if self.group is None:
            return shared | {"strategy": "channel"}
        return shared | {"strategy": "group", "group_size": self.group}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, read again by transformers, beside the recipe as it was measured, on the same test text.

    Attributes:
        bytes: of all files with weights.
        equal: whether every output is the recipe's, bit for bit; ``difference`` is the largest of an output otherwise.
        kl: mean KL divergence of what was read from the reference, in nat, as the recipe's own was measured.
    """

    folder: str
    files: tuple[str, ...]
    bytes: int
    equal: bool
    difference: float
    kl: Estimate


def integers(row: Precision) -> Integers | None:
    """How the format holds a row; None where it does not: other codes, activations that are rounded too. Zero-points
    it would hold, but transformers (5.23 with compressed-tensors 0.20) expects them unpacked and refuses the file."""
    if row.family != INTEGER or row.product or row.zero_point_bits:
        return None
    return Integers(row.bits, row.group)


def must_hold(names: Iterable[str], reference: str) -> None:
    """
    Raises:
        InvalidSpec: the format does not hold one of these rows beside that reference; with the nearest that it holds.
    """
    base = PRECISIONS[reference]
    for row in (PRECISIONS[name] for name in names):
        if row.name == reference or (integers(row) and row.dtype == base.dtype):
            continue
        near = min(
            (other for other in PRECISIONS.values() if integers(other) and other.dtype == base.dtype),
            key=lambda other: (abs(other.bits - row.bits), abs(_shared(other) - _shared(row))),
        )
        why = "keeps no such codes" if integers(row) is None else f"has {base.label} for everything else"
        raise InvalidSpec(
            f"A {METHOD} checkpoint cannot hold {row.label}: it {why}.", f"Choose {near.name} ({near.label}) instead."
        )


def _shared(row: Precision) -> int:
    """Weights that share a scale; a whole row counts as many, and NF4 has blocks of 64."""
    return row.group or (64 if row.bits == 4 else 1024)
