"""Candidates as libraries run them, beside qfund's own."""

import pandas as pd

from qfund.core.units import number_text
from qfund.drawing.phrases import label
from qfund.features.compare.request.report import LibraryRun, PrecisionResult, Report
from qfund.features.compare.words.libraries import latency_phrase
from qfund.precisions.table import PRECISIONS


def libraries(report: Report) -> pd.DataFrame:
    """One row for each candidate as a library runs it, after qfund's own. Times are ratios to the reference's."""
    rows = [
        {
            "precision": result.precision,
            "label": label(result.precision),
            "library": run.library,
            "version": run.version,
            "call": run.implementation,
            "bytes": run.footprint_bytes,
            "own_bytes": result.footprint_bytes,
            "transformers": run.transformers_bytes,
            "ratio": run.latency.value if run.latency else None,
            "se": run.latency.se if run.latency else None,
            "latency": latency_phrase(run.latency),
            "converted": run.converted,
            "left": run.left,
            "difference": run.max_abs_diff,
            "note": run.note or "",
            "problem": run.problem or "",
        }
        for result in report.results
        for run in (_own_run(report, result), *result.libraries)
    ]
    return pd.DataFrame(rows)


def _own_run(report: Report, result: PrecisionResult) -> LibraryRun:
    """qfund's own model as a row beside the libraries'."""
    row = PRECISIONS.get(result.precision)
    return LibraryRun(
        library="qfund",
        version=report.qfund,
        implementation="",
        footprint_bytes=result.footprint_bytes,
        transformers_bytes=result.transformers_bytes,
        converted=result.converted,
        left=result.left,
        latency=result.latency,
        note=OWN_RUN if row is not None and row.quantizer else None,
    )


#: What a time of qfund's own model is a time of.
OWN_RUN = "qfund's own model is made to be exact, not fast: its time says nothing about the format."


def libraries_text(report: Report) -> pd.DataFrame:
    """``libraries`` for a reader."""
    frame = libraries(report)
    shown = pd.DataFrame({"Precision": frame["label"]})
    shown["Run by"] = [
        f"{name} {version}".strip() for name, version in zip(frame["library"], frame["version"], strict=True)
    ]
    shown["Forward ÷ reference's"] = frame["latency"]
    shown["Stored (B)"] = [_count(value) for value in frame["bytes"]]
    shown["qfund's (B)"] = [_count(value) for value in frame["own_bytes"]]
    shown["transformers (B)"] = [_count(value) for value in frame["transformers"]]
    for column in ("converted", "left"):  # nothing is known of what was not run
        known = zip(frame[column], frame["bytes"], strict=True)
        shown[column.capitalize()] = ["–" if pd.isna(bytes_) else f"{count:,}" for count, bytes_ in known]
    shown["Largest difference"] = ["–" if pd.isna(value) else number_text(value) for value in frame["difference"]]
    shown["Problem"], shown["Note"], shown["Call"] = frame["problem"], frame["note"], frame["call"]
    # A column in which nothing stands says nothing.
    return shown[[name for name in shown.columns if not shown[name].isin(["", "–"]).all()]]


def left_by_libraries(report: Report) -> pd.DataFrame:
    """One row a module that qfund converts and a library did not."""
    rows = [
        {
            "Precision": label(result.precision),
            "Library": run.library,
            "module": left.name,
            "kind": left.kind,
            "why": left.why,
        }
        for result in report.results
        for run in result.libraries
        for left in run.left_modules
    ]
    return pd.DataFrame(rows, columns=["Precision", "Library", "module", "kind", "why"])


def _count(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:,.0f}"
