"""The reports of a sweep beside each other: a line for each candidate, and of each model the smallest that will do.

What is said of a candidate is what its own report says by the same margin (``compare.request.decision``), with
intervals that hold for all candidates of that report together. Nothing is averaged over reports.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qfund.features.compare.request.bits import weight_bits
from qfund.features.compare.request.decision import Decision, Finding, decide
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.ranking import GOOD
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.inputs.texts import ALL

#: What is not within a margin, the most hopeful first.
_HOPE = ("inconclusive", "outside", "broken")
_EVALUATION = ("evaluation text", "pictures")


@dataclass(frozen=True, slots=True)
class Line:
    """One candidate of one report.

    Attributes:
        key: of the stored report.
        content: what identifies the checkpoint's content.
        text: what was read, in words; ``text_id`` tells one input from another.
        tokens: that were read for this candidate, 0 of pictures.
        bytes, reference_bytes: of the stored tensors, as counted.
        bits: per converted weight, scales included; None where nothing tells.
        finding: the damage that decided, by the metric that the margin is set on first; None where there is none.
        state: a name of ``decision.STATES``.
    """

    key: str
    created: str
    model: str
    revision: str | None
    content: str
    architecture: str
    parameters: int
    text: str
    text_id: str
    tokens: int
    reference: str
    precision: str
    also: tuple[str, ...]
    bytes: int
    reference_bytes: int
    bits: float | None
    state: str
    finding: Finding | None

    @property
    def good(self) -> bool:
        return self.state in GOOD

    @property
    def share(self) -> float:
        """Of the reference's bytes."""
        return self.bytes / self.reference_bytes if self.reference_bytes else 1.0

    @property
    def strain(self) -> float:
        """The damage as a share of its margin."""
        if self.finding is None:
            return 0.0
        return self.finding.estimate.value / self.finding.margin if self.finding.margin else float("inf")


@dataclass(frozen=True, slots=True)
class Pick:
    """Of one model the smallest candidate that is within the margin on every text that it was measured on, and smaller
    than the reference.

    Attributes:
        line: its worst line; None where there is none, and ``nearest`` is then the one that comes nearest.
        texts: on how many it was measured.
    """

    model: str
    revision: str | None
    architecture: str
    parameters: int
    line: Line | None
    nearest: Line | None
    texts: int


def lines(key: str, report: Report, margin: Margin, name: str = "") -> list[Line]:
    """A line for each candidate of a report; ``name`` is what its input is called."""
    decisions = decide(report, margin)
    return [_line(key, report, result, told, name) for result, told in zip(report.results, decisions, strict=True)]


def _line(key: str, report: Report, result: PrecisionResult, told: Decision, name: str) -> Line:
    spec, facts = report.spec, report.input
    usual = facts.source in _EVALUATION and spec.text is None and spec.scoring == ALL and spec.stride is None
    return Line(
        key=key,
        created=report.created,
        model=spec.model,
        revision=spec.revision,
        content=report.environment.model_id,
        architecture=report.model.architecture,
        parameters=report.model.parameters,
        text=name or (facts.source if spec.text is None else " ".join(spec.text.split())[:40]),
        text_id=f"{facts.source} in {facts.context}" if usual else f"{facts.sha256} {spec.scoring} {spec.stride}",
        tokens=facts.tokens if result.tokens is None else result.tokens,
        reference=report.reference.precision,
        precision=result.precision,
        also=spec.also,
        bytes=result.footprint_bytes,
        reference_bytes=report.reference.footprint_bytes,
        bits=weight_bits(result),
        state=told.state,
        finding=_finding(told),
    )


def _finding(told: Decision) -> Finding | None:
    worst = [found for found in told.findings if found.state == told.state] or list(told.findings)
    if told.state in GOOD:
        worst = list(told.findings)
    return worst[0] if worst else None


def current(found: Iterable[Line]) -> list[Line]:
    """Without what newer lines replace: those of a checkpoint whose content is another one by now, and of the same
    question those that read less, or are older."""
    rows = list(found)
    newest: dict[object, Line] = {}
    for row in rows:
        held = newest.get((row.model, row.revision))
        if held is None or row.created > held.created:
            newest[row.model, row.revision] = row
    kept: dict[object, Line] = {}
    for row in rows:
        if row.content != newest[row.model, row.revision].content:
            continue
        question = row.model, row.revision, row.reference, row.precision, row.also, row.text_id
        held = kept.get(question)
        if held is None or (row.tokens, row.created) > (held.tokens, held.created):
            kept[question] = row
    return list(kept.values())


def picks(found: Iterable[Line]) -> list[Pick]:
    """One a model: those that save most first, and last those of which no candidate is within the margin."""
    models: dict[object, list[Line]] = {}
    for row in found:
        models.setdefault((row.model, row.revision), []).append(row)
    chosen = [_pick(rows) for rows in models.values()]
    return sorted(chosen, key=lambda pick: (pick.line is None, pick.line.share if pick.line else 0.0, pick.model))


def _pick(rows: Sequence[Line]) -> Pick:
    candidates: dict[object, list[Line]] = {}
    for row in rows:
        candidates.setdefault((row.reference, row.precision, row.also), []).append(row)
    texts = {row.text_id for row in rows}
    worst = [max(each, key=lambda row: (not row.good, row.strain)) for each in candidates.values()]
    good = [row for row in worst if row.good and row.bytes < row.reference_bytes]
    best = min(good, key=lambda row: (row.bytes, row.strain), default=None)
    rest = [row for row in worst if not row.good]
    nearest = None if best else min(rest, key=lambda row: (_HOPE.index(row.state), row.strain), default=None)
    first = rows[0]
    return Pick(first.model, first.revision, first.architecture, first.parameters, best, nearest, len(texts))


def ordered(found: Iterable[Line]) -> list[Line]:
    """Models as ``picks`` has them; of each the candidates that will do first, the smallest first."""
    rows = list(found)
    place = {(pick.model, pick.revision): number for number, pick in enumerate(picks(rows))}
    return sorted(rows, key=lambda row: (place[row.model, row.revision], row.text_id, not row.good, row.bytes))


@dataclass(frozen=True, slots=True)
class Failed:
    """A comparison that could not be planned or measured; ``name`` tells its input."""

    model: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: ``qfund sweep --json``, and what ``qfund.sweep`` gives."""

    picks: tuple[Pick, ...]
    lines: tuple[Line, ...]
    failed: tuple[Failed, ...] = ()

    @classmethod
    def of(cls, found: Iterable[Line], failed: Iterable[Failed] = ()) -> "Swept":
        rows = ordered(found)
        return cls(tuple(picks(rows)), tuple(rows), tuple(failed))
