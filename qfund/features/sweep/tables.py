"""A ranking → rows for tables, and what is taken along of them. Pure functions; no Streamlit, and no pandas."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from qfund.core.units import bytes_text, number_text
from qfund.drawing.numbers import count_text
from qfund.drawing.phrases import label
from qfund.features.compare.words.findings import times
from qfund.features.sweep import words
from qfund.features.sweep.request.plan import Planned
from qfund.features.sweep.request.ranking import Line, Pick, Swept

#: A row, all of one table with the same columns; ``FORMATS`` reads its numbers.
Row = dict[str, Any]

#: A column of numbers → how a reader sees one.
FORMATS: dict[str, Callable[[float], str]] = {
    "Parameters": lambda count: count_text(int(count)),
    "Checkpoint": bytes_text,
    "Memory": bytes_text,
    "of reference": lambda share: f"{100 * share:.3g} %",
    "Bits": lambda bits: f"{bits:.3g}",
    "÷ margin": lambda strain: number_text(strain).replace("-", "−"),
}
ABSENT = "–"


def texts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows as a reader sees them, for where there is nothing but text."""
    return [
        {name: ABSENT if cell is None else FORMATS.get(name, str)(cell) for name, cell in row.items()} for row in rows
    ]


def picked(picks: Iterable[Pick]) -> list[Row]:
    """Of each model the smallest precision within the margin, or what comes nearest."""
    return [
        {
            "Model": words.model(pick.model, pick.revision),
            "Architecture": pick.architecture,
            "Parameters": pick.parameters,
            "Smallest": label(pick.line.precision) if pick.line else ABSENT,
            "Memory": pick.line.bytes if pick.line else None,
            "of reference": pick.line.share if pick.line else None,
            "Bits": pick.line.bits if pick.line else None,
            "Damage": words.damage(pick.line) if pick.line else words.why_none(pick),
            "Texts": pick.texts,
        }
        for pick in picks
    ]


def ranked(lines: Iterable[Line]) -> list[Row]:
    """Every candidate."""
    return [
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


def plan(lines: Sequence[Planned]) -> list[Row]:
    """A row for each comparison before it is measured; why not is a column where there is something to say."""
    rows = [
        {
            "Model": words.model(line.model, line.item.spec.revision if line.item else None),
            "Text": line.name or "its own",
            "Candidates": ", ".join(map(label, line.item.spec.candidates)) if line.item else ABSENT,
            "Checkpoint": line.bytes,
            "Parameters": line.parameters,
            "Time": words.takes(line),
        }
        for line in lines
    ]
    if any(line.why for line in lines):
        return [row | {"Why not": line.why} for row, line in zip(rows, lines, strict=True)]
    return rows


#: Columns of ``numbers``.
NUMBERS = (
    *("model", "revision", "architecture", "parameters", "text", "tokens", "reference", "precision", "also", "bytes"),
    *("reference_bytes", "bits_per_weight", "metric", "damage", "low", "high", "unit", "margin", "verdict", "created"),
    "key",
)


def numbers(lines: Iterable[Line]) -> list[Row]:
    """Every candidate with full digits: ``damage``, ``low`` and ``high`` in ``unit``, with the ``margin`` beside."""
    rows = []
    for line in lines:
        found = line.finding
        scale = times(found) if found else 1.0
        ends = (found.estimate.value, found.estimate.low, found.estimate.high, found.margin) if found else (None,) * 4
        value, low, high, margin = (None if end is None else scale * end for end in ends)
        metric, unit = (found.metric, words.unit(found.metric)) if found else ("", "")
        facts = line.model, line.revision or "", line.architecture, line.parameters, line.text, line.tokens
        what = line.reference, line.precision, " ".join(line.also), line.bytes, line.reference_bytes, line.bits
        damage = metric, value, low, high, unit, margin, line.state
        rows.append(dict(zip(NUMBERS, (*facts, *what, *damage, line.created, line.key), strict=True)))
    return rows


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of Markdown; what would end a cell is escaped."""
    if not rows:
        return ""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    cells = [[" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in line] for line in lines]
    head, *body = (f"| {' | '.join(line)} |" for line in cells)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def document(found: Swept) -> str:
    """The ranking as Markdown: the answer, the smallest of each model, every candidate, what failed."""
    tables = [markdown(texts(rows)) for rows in (picked(found.picks), ranked(found.lines)) if rows]
    parts = [words.headline(found.picks), *tables, words.NOTE]
    parts += ["\n".join(f"- {each}" for each in words.failures(found.failed))] if found.failed else []
    return "\n\n".join(parts) + "\n"
