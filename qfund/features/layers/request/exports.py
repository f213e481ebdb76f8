"""A recipe as a checkpoint that others load: which rows a format holds, and what came of reading it again."""

from collections.abc import Iterable
from dataclasses import dataclass

from qfund.core.errors import InvalidSpec
from qfund.core.estimate import Estimate
from qfund.core.names import look_up
from qfund.precisions.backends.table import BACKENDS
from qfund.precisions.precision import CODEBOOK, INTEGER, Precision
from qfund.precisions.table import PRECISIONS

#: The method's name in ``config.json``, and the layout of its weights.
METHOD, LAYOUT = "compressed-tensors", "pack-quantized"
TEXT = "text"
#: What can be written, by the method's name.
METHODS = {
    METHOD: "symmetric integers, codes packed; transformers and vLLM",
    "torchao": "torchao's tensors and its configuration by module; transformers",
    "bitsandbytes": "NF4 or FP4, the rest skipped; transformers",
    TEXT: "no weights: what other tools take, for every model",
}


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
    """How compressed-tensors holds a row; None where it does not: other codes, activations that are rounded too.
    Zero-points it would hold, but transformers (5.23 with compressed-tensors 0.20) expects them unpacked and refuses
    the file."""
    if row.family != INTEGER or row.product or row.zero_point_bits:
        return None
    return Integers(row.bits, row.group)


def must_hold(names: Iterable[str], reference: str, method: str = METHOD) -> None:
    """
    Raises:
        UnknownName: a method that there is not.
        InvalidSpec: the format does not hold one of these rows beside that reference; with the nearest that it holds.
    """
    look_up(METHODS, method, "format to export")
    if method == TEXT:
        return
    base = PRECISIONS[reference]
    rows = [PRECISIONS[name] for name in names if name != reference]
    for row in rows:
        if _holds(method, row, base):
            continue
        near = min(
            (other for other in PRECISIONS.values() if _holds(method, other, base)),
            key=lambda other: (abs(other.bits - row.bits), abs(_shared(other) - _shared(row))),
        )
        why = f"has {base.label} for everything else" if _codes(method, row) else "keeps no such codes"
        raise InvalidSpec(
            f"A {method} checkpoint cannot hold {row.label}: it {why}.", f"Choose {near.name} ({near.label}) instead."
        )
    if method == "bitsandbytes" and len({row.name for row in rows}) > 1:
        raise InvalidSpec(
            f"A {method} checkpoint cannot hold {' and '.join(row.label for row in rows)}: all that is quantised in it "
            "has one type.",
            f"Choose {rows[0].name} ({rows[0].label}) alone, beside {base.label}.",
        )


def held(names: Iterable[str], reference: str, method: str = METHOD) -> tuple[str, ...]:
    """Those of these rows that a format holds; of a format that has one type at a time the first."""
    look_up(METHODS, method, "format to export")
    base = PRECISIONS[reference]
    found = tuple(name for name in names if method == TEXT or _holds(method, PRECISIONS[name], base))
    return found[:1] if method == "bitsandbytes" else found


def _holds(method: str, row: Precision, base: Precision) -> bool:
    return _codes(method, row) and row.dtype == base.dtype


def _codes(method: str, row: Precision) -> bool:
    """Whether the format has a row's codes, whatever everything else is in."""
    if method == METHOD:
        return integers(row) is not None
    if method == "bitsandbytes":
        return row.family == CODEBOOK
    held = {each.precision: each for each in BACKENDS[method].rows}.get(row.variant_of or row.name)
    return held is not None and "cpu" in held.devices and held.base in (None, row.dtype)


def _shared(row: Precision) -> int:
    """Weights that share a scale; a whole row counts as many, and NF4 has blocks of 64."""
    return row.group or (64 if row.bits == 4 else 1024)
