"""What is in a quantised file as rows of text, and as frames."""

from typing import TYPE_CHECKING

from qfund.core.units import bytes_text
from qfund.features.audit.request import Audit, TensorAudit, by_module, pattern
from qfund.features.audit.words import layers_text

if TYPE_CHECKING:  # the command does without
    import pandas as pd

Rows = list[list[str]]


def types(found: Audit) -> Rows:
    """A row a type: tensors, parameters, bits and bytes."""
    rows = [["Type", "Tensors", "Parameters", "Bits/weight", "Bytes", ""]]
    for name, share in found.types.items():
        bits = 8 * share.bytes / share.parameters if share.parameters else 0.0
        rows.append(
            [
                name,
                f"{share.tensors:,}",
                f"{share.parameters:,}",
                f"{bits:.4g}",
                f"{share.bytes:,}",
                bytes_text(share.bytes),
            ]
        )
    return rows


def modules(found: Audit) -> Rows:
    """The map of modules: a row for each place in the layers and type."""
    rows = [["Module", "Type", "Layers", "Bytes", "Lowest SQNR"]]
    for kind in by_module(found.tensors):
        lowest = "" if kind.lowest is None else f"{kind.lowest:.1f} dB"
        rows.append([kind.name, kind.type, layers_text(kind.layers), bytes_text(kind.bytes), lowest])
    return rows


def tensors(found: Audit) -> Rows:
    """A row a tensor."""
    rows = [["Tensor", "Type", "Shape", "Bits/weight", "Bytes", "SQNR"]]
    rows += [
        [row.name, row.type, "×".join(map(str, row.shape)), f"{row.bits:.4g}", f"{row.bytes:,}", sqnr_text(row)]
        for row in found.tensors
    ]
    return rows


def sqnr_text(row: TensorAudit) -> str:
    return "same" if row.same else "" if row.sqnr is None else f"{row.sqnr:.1f} dB"


def frame(found: Audit) -> "pd.DataFrame":
    """A row a tensor: its ``place`` in the layers, the ``layer`` (none outside of them), ``type``, ``bits`` a weight,
    ``bytes``, ``sqnr`` in dB (infinite where every number is the original's, none where nothing was compared)."""
    import pandas as pd

    rows = []
    for row in found.tensors:
        place, layer = pattern(row.name)
        rows.append(
            {
                "tensor": row.name,
                "place": place.removesuffix(".weight"),
                "layer": layer,
                "type": row.type,
                "shape": "×".join(map(str, row.shape)),
                "bits": row.bits,
                "bytes": row.bytes,
                "sqnr": float("inf") if row.same else row.sqnr,
            }
        )
    return pd.DataFrame(rows).astype({"layer": "Int64", "sqnr": "float64"})
