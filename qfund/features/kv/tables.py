"""A result → frames. Pure functions; no Streamlit."""

import pandas as pd

from qfund.features.kv.request import Kv
from qfund.features.kv.words import halves
from qfund.precisions.caches import title


def rows(found: Kv) -> pd.DataFrame:
    """A row for each cache: ``kv title bytes share kl low high top1 first second``; those refused are left out.

    ``share`` is of the bytes of the unrounded cache; ``first`` and ``second`` are the mean KL of the
    halves of the context.
    """
    table = []
    for row in found.rows:
        if row.problem or row.kl is None or row.top1 is None:
            continue
        first, second = halves(row) or (None, None)
        table.append(
            {
                "kv": row.kv,
                "title": title(row.kv),
                "bytes": row.bytes,
                "share": row.bytes / found.reference_bytes if found.reference_bytes else None,
                "kl": row.kl.value,
                "low": row.kl.low,
                "high": row.kl.high,
                "top1": row.top1.value,
                "first": first,
                "second": second,
            }
        )
    names = ["kv", "title", "bytes", "share", "kl", "low", "high", "top1", "first", "second"]
    return pd.DataFrame(table, columns=names)


def by_depth(found: Kv) -> pd.DataFrame:
    """A row for each cache × band: ``title start end kl count``."""
    table = [
        {"title": title(row.kv), "start": band.start, "end": band.end, "kl": band.kl, "count": band.count}
        for row in found.rows
        for band in row.bands
    ]
    return pd.DataFrame(table, columns=["title", "start", "end", "kl", "count"])
