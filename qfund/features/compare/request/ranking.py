"""Which candidate to run: those within the margin that fit, the smallest first, and no order where there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qfund.features.compare.request.decision import Decision
from qfund.features.compare.request.pairs import paired
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.memory.request.fits import Row

#: States of a decision whose candidate can be taken.
GOOD = ("indistinguishable", "within")
#: What cannot be taken, the most hopeful first.
_REST = ("inconclusive", "outside", "broken")
#: Footprints that differ by less are the same size: a choice between them is one of outputs.
SAME_SIZE = 0.005
#: What two candidates are told apart by, the first that both have; it sees smaller differences than a margin asks for.
_APART = ("kl_mean", "mean_abs_logit_diff", "mean_abs_hidden_diff", "hidden_cosine", "top1_agreement")


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate in the order in which to try them.

    Attributes:
        place: from 1; None for one that cannot be taken. Two that are as small, and whose paired difference holds zero
            (or is not known), ``share`` a place.
        fit: what running it takes; None where that is not known (yet).
    """

    result: PrecisionResult
    decision: Decision
    fit: Row | None
    place: int | None = None
    shared: bool = False

    @property
    def good(self) -> bool:
        """Whether outputs stay within the margin."""
        return self.decision.state in GOOD

    @property
    def usable(self) -> bool:
        """Within the margin, and nothing is known against its fitting."""
        return self.good and (self.fit is None or self.fit.fits)


def ranked(report: Report, decisions: Sequence[Decision], fit: Mapping[str, Row]) -> tuple[Ranked, ...]:
    """All candidates, those that can be taken first; ``fit`` has rows by precision, as far as they are known."""
    rows = [
        Ranked(result, decision, fit.get(result.precision))
        for result, decision in zip(report.results, decisions, strict=True)
    ]
    usable = sorted((row for row in rows if row.usable), key=lambda row: row.result.memory)
    rest = sorted((row for row in rows if not row.usable), key=_hopeless)
    placed: list[Ranked] = []
    for group in _same_size(usable):
        for alike in _alike(report, group):
            place = len(placed) + 1
            placed += [replace(row, place=place, shared=len(alike) > 1) for row in alike]
    return (*placed, *rest)


def _hopeless(row: Ranked) -> tuple[int, int]:
    state = row.decision.state
    return (_REST.index(state) if state in _REST else len(_REST)), row.result.memory


def _same_size(rows: Sequence[Ranked]) -> list[list[Ranked]]:
    """Neighbours in groups, each within ``SAME_SIZE`` of its first."""
    groups: list[list[Ranked]] = []
    for row in rows:
        if groups and row.result.memory <= groups[-1][0].result.memory * (1 + SAME_SIZE):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _alike(report: Report, rows: list[Ranked]) -> list[list[Ranked]]:
    """The closest to the reference first; with each those that cannot be told from it."""
    groups: list[list[Ranked]] = []
    for row in sorted(rows, key=distance):
        if groups and not told_apart(report, groups[-1][0].result.precision, row.result.precision):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def distance(row: Ranked) -> float:
    """How far outputs are from the reference's, to order candidates by."""
    name = next((name for name in _APART if name in row.result.fidelity), None)
    if name is None:
        return 0.0
    value = row.result.fidelity[name].value
    return -value if name in ("hidden_cosine", "top1_agreement") else value


def told_apart(report: Report, one: str, other: str) -> bool:
    """Whether the 95 % interval of the paired difference of two candidates leaves out zero."""
    found = paired(report, one, other)
    estimate = next((found[name] for name in _APART if name in found), None)
    if estimate is None or estimate.low is None or estimate.high is None:
        return False
    return not estimate.low <= 0 <= estimate.high


def chosen(rows: Sequence[Ranked], reference: PrecisionResult) -> Ranked | None:
    """The smallest candidate within the margin that fits; None where there is none, or none that is smaller than the
    reference."""
    best = rows[0] if rows and rows[0].place else None
    return best if best is not None and best.result.memory < reference.memory else None


def hopeful(rows: Sequence[Ranked]) -> Ranked | None:
    """The smallest that is not decided yet."""
    found = [row for row in rows if row.decision.state == "inconclusive"]
    return min(found, key=lambda row: row.result.memory, default=None)
