"""A ranking → frames, and what is taken along of them. Pure functions; no Streamlit."""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import count_text
from qfund.drawing.phrases import label
from qfund.features.compare.words.findings import times
from qfund.features.sweep import words
from qfund.features.sweep.request.plan import Planned
from qfund.features.sweep.request.ranking import Line, Pick, Swept


def picked(picks: Iterable[Pick]) -> pd.DataFrame:
    """Of each model the smallest precision within the margin, or what comes nearest; ``FORMATS`` reads numbers."""
    rows = []
    for pick in picks:
        line = pick.line
        rows.append(
            {
                "Model": words.model(pick.model, pick.revision),
                "Architecture": pick.architecture,
                "Parameters": pick.parameters,
                "Smallest": label(line.precision) if line else "–",
                "Memory": line.bytes if line else None,
                "of reference": line.share if line else None,
                "Bits": line.bits if line else None,
                "Damage": words.damage(line) if line else words.why_none(pick),
                "Texts": pick.texts,
            }
        )
    return pd.DataFrame(rows)


def ranked(lines: Sequence[Line]) -> pd.DataFrame:
    """Every candidate; ``FORMATS`` reads numbers."""
    return pd.DataFrame(
        [
            {
                "Model": words.model(line.model, line.revision),
                "Text": line.text,
                "Precision": label(line.precision),
                "Memory": line.bytes,
                "of reference": line.share,
                "Bits": line.bits,
                "Damage": words.damage(line),
                "÷ margin": line.strain if line.finding else None,
                "Margin": words.verdict(line),
            }
            for line in lines
        ]
    )


#: A column of numbers → how a reader sees one.
FORMATS: dict[str, Callable[[float], str]] = {
    "Parameters": lambda count: count_text(int(count)),
    "Memory": bytes_text,
    "of reference": lambda share: f"{100 * share:.3g} %",
    "Bits": lambda bits: f"{bits:.3g}",
    "÷ margin": lambda strain: number_text(strain).replace("-", "−"),
}
ABSENT = "–"


def formats(frame: pd.DataFrame) -> dict[str, Callable[[float], str]]:
    """Those of ``FORMATS`` that the frame has columns for."""
    return {name: said for name, said in FORMATS.items() if name in frame}


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as a reader sees it, for where there is nothing but text."""
    columns = {
        name: [ABSENT if pd.isna(value) else said(value) for value in frame[name]]
        for name, said in formats(frame).items()
    }
    return frame.assign(**columns)


def numbers(lines: Iterable[Line]) -> pd.DataFrame:
    """Every candidate with full digits: ``damage``, ``low`` and ``high`` in ``unit``, with the ``margin`` beside."""
    rows = []
    for line in lines:
        found = line.finding
        scale = times(found) if found else 1.0
        ends = (found.estimate.value, found.estimate.low, found.estimate.high, found.margin) if found else (None,) * 4
        value, low, high, margin = (None if end is None else scale * end for end in ends)
        rows.append(
            {
                "model": line.model,
                "revision": line.revision or "",
                "architecture": line.architecture,
                "parameters": line.parameters,
                "text": line.text,
                "tokens": line.tokens,
                "reference": line.reference,
                "precision": line.precision,
                "also": " ".join(line.also),
                "bytes": line.bytes,
                "reference_bytes": line.reference_bytes,
                "bits_per_weight": line.bits,
                "metric": found.metric if found else "",
                "damage": value,
                "low": low,
                "high": high,
                "unit": words.unit(found.metric) if found else "",
                "margin": margin,
                "verdict": line.state,
                "created": line.created,
                "key": line.key,
            }
        )
    return pd.DataFrame(rows, columns=NUMBERS, dtype=object)


#: Columns of ``numbers``.
NUMBERS = (
    *("model", "revision", "architecture", "parameters", "text", "tokens", "reference", "precision", "also", "bytes"),
    *("reference_bytes", "bits_per_weight", "metric", "damage", "low", "high", "unit", "margin", "verdict", "created"),
    "key",
)


def plan(lines: Iterable[Planned]) -> pd.DataFrame:
    """For a reader: a line for each comparison, before it is measured."""
    frame = pd.DataFrame(
        [
            {
                "Model": words.model(line.model, line.item.spec.revision if line.item else None),
                "Text": line.name or "its own",
                "Candidates": ", ".join(map(label, line.item.spec.candidates)) if line.item else "–",
                "Checkpoint": bytes_text(line.bytes) if line.bytes else "–",
                "Parameters": count_text(line.parameters) if line.parameters else "–",
                "Time": words.takes(line),
                "Why not": line.why,
            }
            for line in lines
        ],
        dtype=object,
    )
    return frame if any(frame["Why not"]) else frame.drop(columns="Why not")


def markdown(frame: pd.DataFrame) -> str:
    """A table of Markdown; what would end a cell is escaped."""
    rows = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
    cells = [[" ".join(str(cell).split()).replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, f"|{' --- |' * len(frame.columns)}", *body])


def document(found: Swept) -> str:
    """The ranking as Markdown: the answer, the smallest of each model, every candidate, what failed."""
    tables = (markdown(texts(frame)) for frame in (picked(found.picks), ranked(found.lines)))
    parts = [words.headline(found.picks), *tables, words.NOTE]
    parts += ["\n".join(f"- {each}" for each in words.failures(found.failed))] if found.failed else []
    return "\n\n".join(parts) + "\n"
