"""The quantised files of a report: what each is, and which type its modules have."""

import pandas as pd

from qfund.core.units import bytes_text
from qfund.drawing.phrases import label
from qfund.features.audit.request import TensorAudit, by_module
from qfund.features.audit.words import layers_text
from qfund.features.compare.request.report import PrecisionResult, Report


def with_files(report: Report) -> list[PrecisionResult]:
    """The results whose weights are a file's."""
    return [row for row in (report.reference, *report.results) if row.file is not None]


def files(report: Report) -> pd.DataFrame:
    """A row a file."""
    rows = []
    for result in with_files(report):
        file = result.file
        assert file is not None
        held = sorted(file.types.items(), key=lambda item: -item[1][1])
        rows.append(
            {
                "File": label(result.precision),
                "Format": file.label,
                "Size": bytes_text(file.bytes),
                "Bits/weight: file": f"{file.bits_of_file:.3g}",
                "all parameters": f"{file.bits_of_parameters:.3g}",
                "quantised weights": "–" if file.bits_of_quantized is None else f"{file.bits_of_quantized:.3g}",
                "Types": ", ".join(f"{count:,} {kind}" for kind, (count, _) in held),
                "Content": file.id[:20],
                "Given as": file.file,
            }
        )
    return pd.DataFrame(rows)


def modules(result: PrecisionResult) -> pd.DataFrame:
    """The map of a file's modules by type: a row for each place in the layers and type."""
    tensors = [
        TensorAudit(row.name, row.dtype, row.shape, 8 * row.bytes / row.parameters, row.bytes, row.dtype != row.logical)
        for row in result.tensors
        if row.shared_with is None and row.parameters
    ]
    return pd.DataFrame(
        [
            {
                "Module": kind.name,
                "Type": kind.type,
                "Layers": layers_text(kind.layers),
                "Size": bytes_text(kind.bytes),
            }
            for kind in by_module(tensors)
        ]
    )
