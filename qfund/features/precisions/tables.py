"""The table of precisions as frames."""

import pandas as pd

from qfund.precisions import backends
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.table import PRECISIONS, unavailable


def precisions(device: str) -> pd.DataFrame:
    """The table of precisions, one row each, with what runs on this device and which libraries here have it."""
    return pd.DataFrame([_precision(row, device) for row in PRECISIONS.values()])


def _precision(row: Precision, device: str) -> dict[str, object]:
    return {
        "name": row.name,
        "label": row.label,
        "family": row.family,
        "base": row.base,
        "here": "yes" if unavailable(row, device) is None else "no: needs a CUDA GPU" if row.device else "no",
        "why_not": unavailable(row, device) or "yes",
        "bits": row.bits or None,
        "effective": row.effective_bits or None,
        "granularity": row.granularity,
        "storage": row.storage,
        "quantised": "–" if row.quantizer is None else "weights" if row.weights_only else "weights and activations",
        "arithmetic": row.arithmetic,
        "emulated": row.emulated or "",
        "runs_on": row.runs_on,
        "treatment": row.treatment,
        # A cast that is no narrower than fp32 rounds nothing, and what is stored already was rounded elsewhere.
        "sqnr": None if row.family == STORED or (row.quantizer is None and row.bits >= 32) else row.sqnr_floor,
        **{name: _library(row, name, device) for name in backends.BACKENDS},
        "meaning": row.meaning,
    }


def _library(row: Precision, backend: str, device: str) -> str:
    """Whether a library really stores and runs it here: ``yes``, why not, or ``–`` where it does not know it."""
    found = [each for each in backends.implementations(row.name) if each.backend == backend]
    return (backends.unavailable(found[0], device) or "yes") if found else "–"


def reasons(precisions: pd.DataFrame) -> list[str]:
    """Why rows of ``precisions``, or libraries, do not run here: each reason once."""
    columns = [precisions[name] for name in ("why_not", *backends.BACKENDS)]
    return [reason for reason in pd.concat(columns).drop_duplicates() if reason not in ("yes", "–")]
