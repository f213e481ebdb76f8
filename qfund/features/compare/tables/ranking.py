"""The candidates in the order in which to try them, for a reader."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qfund.core.units import bytes_text
from qfund.drawing.frames import frame
from qfund.drawing.phrases import label
from qfund.features.compare.request.bits import weight_bits
from qfund.features.compare.request.ranking import Ranked
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.words.findings import NAMES, SIGNED, VERDICTS, between, number
from qfund.features.compare.words.libraries import latency_phrase

if TYPE_CHECKING:
    import pandas as pd


def ranking(report: Report, rows: Sequence[Ranked]) -> "pd.DataFrame":
    """``ranking_rows`` as a frame."""
    return frame(ranking_rows(report, rows))


def ranking_rows(report: Report, rows: Sequence[Ranked]) -> list[dict[str, str]]:
    """One row a candidate, and the reference below them; all with the same columns."""
    metrics = list(dict.fromkeys(finding.metric for row in rows for finding in row.decision.findings))
    told = [_row(row, metrics) for row in rows]
    told.append(
        {"": "", "Candidate": label(report.reference.precision), "Margin": "reference", **_sizes(report.reference)}
    )
    if any(row.result.latency for row in rows):
        for line, row in zip(told, rows, strict=False):
            line["Time ÷ reference's"] = latency_phrase(row.result.latency)
    columns = dict.fromkeys(column for line in told for column in line)
    return [{column: line.get(column, "") for column in columns} for line in told]


def _row(row: Ranked, metrics: Sequence[str]) -> dict[str, str]:
    found = {finding.metric: finding for finding in row.decision.findings}
    damage = {}
    for metric in metrics:
        title = f"{NAMES[metric][:1].upper()}{NAMES[metric][1:]}"
        damage[title] = "–"
        if metric in found:
            finding, signed = found[metric], metric in SIGNED
            seen = between(finding, signed)
            damage[title] = number(finding, finding.estimate.value, signed) + (f" ({seen})" if seen else "")
    place = f"{row.place}{'=' if row.shared else ''}" if row.place else "–"
    state = VERDICTS[row.decision.state]
    return {"": place, "Candidate": label(row.result.precision), "Margin": state, **_sizes(row.result), **damage}


def _sizes(result: PrecisionResult) -> dict[str, str]:
    bits = weight_bits(result)
    cache = {} if result.cache is None else {"of it KV cache": bytes_text(result.cache.bytes)}
    return {"Memory": bytes_text(result.memory), **cache, "Bits": "–" if bits is None else f"{bits:.3g}"}
