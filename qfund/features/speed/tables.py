"""A result → frames. Pure functions; no Streamlit."""

import pandas as pd

from qfund.features.speed.request.bounds import decode_share, prefill_share
from qfund.features.speed.request.causes import DECODE, NOISE, PREFILL, causes
from qfund.features.speed.request.speed import Speed
from qfund.features.speed.words import name

_COLUMNS = (
    *("precision", "backend", "title", "batch", "depth", "decode", "decode_low", "decode_high"),
    *("decode_ratio", "ratio_low", "ratio_high", "decode_share", "first", "prefill", "prefill_ratio", "prefill_share"),
    *("joules", "load_seconds", "bytes", "cause"),
)


def points(found: Speed) -> pd.DataFrame:
    """A row for each run × point. Speeds in tokens a second, shares of the bounds, ``first`` and ``load_seconds`` in
    seconds, ``joules`` per written token; ``cause`` of what is clearly slower than the reference."""
    rows = []
    for run in found.runs:
        for point in run.points:
            named = [cause for phase in (DECODE, PREFILL) for cause in causes(found, run, point, phase)]
            rows.append(
                (
                    *(run.precision, run.backend, name(run), point.batch, point.depth),
                    *(point.decode.median, point.decode.low, point.decode.high),
                    *(point.decode_ratio.median, point.decode_ratio.low, point.decode_ratio.high),
                    *(decode_share(found.bounds, run, point), point.first.median),
                    *(point.prefill.median, point.prefill_ratio.median, prefill_share(found.bounds, run, point)),
                    *(point.joules, run.load_seconds, run.stored_bytes),
                    ", ".join(dict.fromkeys(cause.name for cause in named if cause.name != NOISE)),
                )
            )
    return pd.DataFrame(rows, columns=list(_COLUMNS))
