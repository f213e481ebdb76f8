"""``Captions`` → tidy pandas frames. Pure functions; no Streamlit."""

import pandas as pd

from qfund.core.estimate import Estimate
from qfund.drawing.phrases import label
from qfund.features.captions.request import Captions, Share
from qfund.features.captions.words import interval

WITHOUT_TRUTH = ("Exactly right", "95 % interval", "Right → wrong", "Wrong → right")


def accuracy(found: Captions) -> pd.DataFrame:
    """One row a precision, the reference first: the share of exact captions with its 95 % interval."""
    rows = [
        {
            "precision": row.precision,
            "label": label(row.precision),
            "exact": row.exact.value,
            "low": row.exact.low,
            "high": row.exact.high,
            "hover": f"{row.exact.count:,} of {row.exact.of:,} exactly right",
        }
        for row in (found.reference, *found.candidates)
        if row.exact is not None
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "exact", "low", "high", "hover"])


def divergence(found: Captions) -> pd.DataFrame:
    """One row a candidate: mean KL divergence (nat) along the reference's captions, with its standard error."""
    rows = [
        {
            "precision": row.precision,
            "label": label(row.precision),
            "kl": row.kl_mean.value,
            "se": row.kl_mean.se,
            "n": row.kl_mean.n,
        }
        for row in found.candidates
        if row.kl_mean is not None
    ]
    return pd.DataFrame(rows, columns=["precision", "label", "kl", "se", "n"])


def summary(found: Captions) -> pd.DataFrame:
    """One row a precision, for a reader; shares in percent. Without columns about the truth where nobody knows it."""
    rows = (found.reference, *found.candidates)
    frame = pd.DataFrame(
        {
            "Precision": [label(row.precision) for row in rows],
            "Memory (B)": [row.footprint_bytes for row in rows],
            "Exactly right": [_percent(row.exact) for row in rows],
            "95 % interval": [interval(row.exact) if row.exact else None for row in rows],
            "Changed": [_percent(row.changed) for row in rows],
            "Right → wrong": [row.broken if row.changed else None for row in rows],
            "Wrong → right": [row.mended if row.changed else None for row in rows],
            "KL": [_value(row.kl_mean) for row in rows],
            "KL 99 %": [_value(row.kl_p99) for row in rows],
            "Largest difference": [_value(row.max_abs_logit_diff) for row in rows],
        }
    )
    return frame if found.reference.exact else frame.drop(columns=list(WITHOUT_TRUTH))


def _percent(found: Share | None) -> float | None:
    return 100 * found.value if found else None


def _value(found: Estimate | None) -> float | None:
    return found.value if found else None
