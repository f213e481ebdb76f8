"""What was measured for the nine questions → tidy pandas frames: one row a fact. Pure functions; no Streamlit."""

from collections.abc import Sequence

import pandas as pd

from qfund.drawing.phrases import label
from qfund.features.compare.request.report import Report
from qfund.features.lesson import words
from qfund.features.lesson.request.notebook import Notebook, WeightInFormats
from qfund.features.lesson.request.published import CourseFigure
from qfund.features.lesson.words import dtype_label
from qfund.features.memory.request.load_peak import WAYS, LoadPeaks
from qfund.features.memory.request.plan import PARTS, Plan

#: What the parts of a footprint are called where there is little room.
_SHORT = {
    "quantised": "codes",
    "layers": "layers as floats",
    "embeddings": "embeddings",
    "head": "head",
    "norms": "norms",
    "other": "biases",
    "scales": "scales",
    "buffers": "buffers",
}
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def printed(found: Notebook) -> pd.DataFrame:
    """One row a tensor, as a notebook prints it, and its dtype after the cast."""
    return pd.DataFrame(
        {
            "Name": [row.name for row in found.listed],
            "dtype": [f"torch.{row.before}" for row in found.listed],
            "Shape": [" × ".join(map(str, row.shape)) or "one number" for row in found.listed],
            "Is a": ["parameter" if row.kind == "weight" else "buffer" for row in found.listed],
            "After the cast": [f"torch.{row.after}" for row in found.listed],
        }
    )


def claims(report: Report, precision: str, most: int) -> pd.DataFrame:
    """What printing a quantised weight's dtype says beside what is stored; empty where the report lists no tensors."""
    result = next((row for row in report.results if row.precision == precision), None)
    rows = words.claims(result)[:most] if result else []
    return pd.DataFrame(
        [(name, f"torch.{claimed}", stored, f"torch.{held}") for name, claimed, stored, held in rows],
        columns=["Weight", "weight.dtype says", "A value is", "Held in"],
    )


def cast_bytes(found: Notebook) -> pd.DataFrame:
    """One row a bar and a part of it: bytes by kind and dtype before and after the cast."""
    return pd.DataFrame(
        [
            {"label": when, "part": f"{row.kind}s, {dtype_label(row.dtype)}", "dtype": row.dtype, "bytes": row.bytes}
            for when, counts in (("before", found.before), ("after", found.after))
            for row in counts
        ]
    )


def outputs(found: Notebook) -> pd.DataFrame:
    """One row an output, one column a dtype: the values of one position."""
    values = {dtype_label(row.dtype): row.values for row in found.outputs if row.values}
    return pd.DataFrame({"Output": list(found.shown), **values})


def output_differences(found: Notebook) -> pd.DataFrame:
    """One row for each low dtype and shown output: its distance from FP32's."""
    reference = found.outputs[0]
    return pd.DataFrame(
        [
            {"precision": _DTYPES[row.dtype], "label": dtype_label(row.dtype), "output": name, "difference": low - full}
            for row in found.outputs[1:]
            for name, full, low in zip(found.shown, reference.values, row.values, strict=False)
        ],
        columns=["precision", "label", "output", "difference"],
    )


def output_summary(found: Notebook) -> pd.DataFrame:
    """One row a dtype: what came out, over all outputs."""
    return pd.DataFrame(
        {
            "Model in": [dtype_label(row.dtype) for row in found.outputs],
            "Output dtype": [f"torch.{row.returned}" if row.returned else "none" for row in found.outputs],
            "Mean |difference|": [row.mean for row in found.outputs],
            "Largest |difference|": [row.largest for row in found.outputs],
            "Remark": [
                row.problem or (f"{row.nonfinite:,} not finite" if row.nonfinite else "") for row in found.outputs
            ],
        }
    )


def copied(found: Notebook) -> pd.DataFrame:
    return pd.DataFrame(words.copied(found.copying), columns=["What was done", "What was seen"])


def errors_by_size(found: WeightInFormats) -> pd.DataFrame:
    """One row for each format and octave of |weight| with an error: both means."""
    return pd.DataFrame(
        [
            {
                "precision": one.precision,
                "label": label(one.precision),
                "magnitude": part.magnitude,
                "error": part.error,
                "count": part.count,
            }
            for one in found.formats
            for part in one.bins
            if part.error > 0
        ],
        columns=["precision", "label", "magnitude", "error", "count"],
    )


def formats(found: WeightInFormats) -> pd.DataFrame:
    """One row a format."""
    return pd.DataFrame(
        {
            "Format": [label(one.precision) for one in found.formats],
            "Bits per weight": [one.bits for one in found.formats],
            "SQNR (dB)": [one.sqnr for one in found.formats],
            "Mean |error|": [one.mean for one in found.formats],
            "Largest |error|": [one.largest for one in found.formats],
            "Step of row 0": [one.step for one in found.formats],
            "Values in row 0": [one.distinct for one in found.formats],
        }
    )


def parts(plan: Plan, precisions: Sequence[str]) -> pd.DataFrame:
    """One row for each precision and part of its footprint."""
    return pd.DataFrame(
        [
            {
                "precision": one.precision,
                "label": label(one.precision),
                "part": _SHORT[part],
                "bytes": one.parts[part],
            }
            for one in plan.entries
            if one.precision in precisions
            for part in PARTS
            if any(other.parts[part] for other in plan.entries if other.precision in precisions)
        ],
        columns=["precision", "label", "part", "bytes"],
    )


def parts_text(plan: Plan, precisions: Sequence[str]) -> pd.DataFrame:
    """One row a part, one column a precision, in bytes, with the sum and the ratio at the end."""
    shown = [one for one in plan.entries if one.precision in precisions]
    used = [part for part in PARTS if any(one.parts[part] for one in shown)]
    frame = pd.DataFrame({"Part": [PARTS[part] for part in used] + ["all", "÷ FP32"]})
    for one in shown:
        frame[label(one.precision)] = [
            *(f"{one.parts[part]:,}" for part in used),
            f"{one.predicted_bytes:,}",
            f"{one.ratio:.10g}",
        ]
    return frame


def ways(found: LoadPeaks) -> pd.DataFrame:
    """One row a way to come to a BF16 model, the reference first: its need as a multiple of the FP32 weights."""
    rows = [("load in fp32, and stay there", found.reference)]
    rows += [(WAYS[way.way].meaning.split(":")[0], way) for way in found.ways]
    return pd.DataFrame(
        [
            {
                "way": way.way,
                "precision": way.precision,
                "label": said,
                "need": way.sampled.multiples["need"],
                "settled": way.sampled.multiples["settled"],
                "bytes": way.sampled.need,
            }
            for said, way in rows
            if way.sampled
        ],
        columns=["way", "precision", "label", "need", "settled", "bytes"],
    )


def course(figures: Sequence[CourseFigure]) -> pd.DataFrame:
    """One row a published figure."""
    return pd.DataFrame(
        {
            "Figure": [figure.what for figure in figures],
            "Then": [_text(figure.then, figure.unit) for figure in figures],
            "Now": [_text(figure.now, figure.unit) for figure in figures],
            "Comes out": [figure.verdict for figure in figures],
            "Difference undone": [_text(figure.again, figure.unit) for figure in figures],
        }
    )


def _text(value: int | float | str | None, unit: str) -> str:
    """All digits, so that what is the same looks the same."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{f'{value:,}' if isinstance(value, int) else repr(value)} {unit}".strip()
