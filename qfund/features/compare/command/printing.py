"""A report for a terminal, and the margins that it is judged by."""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence

from qfund.commandline.comparing import margins
from qfund.commandline.table import Option
from qfund.commandline.tables import folded
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.report import Report

_BESIDE = 4  # candidates whose columns fit beside each other in a terminal


#: What each candidate is judged by; it changes no measurement.
MARGINS = margins(Margin().perplexity or 0.0, Margin().tokens or 0.0, Margin().cosine or 0.0)


def margin(options: Namespace) -> Margin:
    return Margin(options.margin_perplexity, options.margin_tokens, cosine=options.margin_cosine)


EVERYTHING = Option("--all", "print every metric, every size and where they come from, not only the answer", flag=True)


def text(found: Report, margin: Margin, every: bool = False) -> str:
    """The answer, all candidates and five metrics, on a screen; or ``every`` sentence and table there is."""
    if every:
        return "\n".join((*_head(found), *_verdicts(found, margin), "", *_tables(found)))
    return "\n".join(_short(found, margin))


def _short(found: Report, margin: Margin) -> Iterator[str]:
    from qfund.features.compare.request.hardware import Hardware
    from qfund.features.compare.request.ranking import ranked
    from qfund.features.compare.tables import metrics
    from qfund.features.compare.tables.ranking import ranking_rows
    from qfund.features.compare.words import answer, candidates, report, statistics

    rows = ranked(found, decide(found, margin), {})
    yield from (report.title(found), "", answer.sentence(found, rows, Hardware()), "")
    yield from (f"! {alarm}" for alarm in candidates.reference_alarms(found))
    yield folded(ranking_rows(found, rows), keys=2)
    for judged in candidates.verdicts(found):
        yield from (f"! {alarm}" for alarm in judged.alarms)
        yield from (f"  {quiet}" for quiet in judged.cautions)
    yield ""
    fidelity = metrics.metric_rows(found, every=False)
    if not fidelity:
        yield report.nothing_compared(found)
    elif len(found.results) <= _BESIDE:
        yield folded(_brief(fidelity))
        yield statistics.how_sure(found)
    yield from ("", report.provenance(found), *report.notes(found))
    yield f"Every metric, size and library: --all. Whether it fits: qfund fits {found.spec.model}."


def _head(found: Report) -> Iterator[str]:
    from qfund.features.compare.words import candidates, report

    yield report.title(found)
    yield report.provenance(found)
    yield from report.notes(found)
    yield from (f"! {alarm}" for alarm in candidates.reference_alarms(found))
    if whole := report.whole_phrase(found):
        yield whole


def _verdicts(found: Report, margin: Margin) -> Iterator[str]:
    from qfund.features.compare.words import candidates

    decided = zip(decide(found, margin), candidates.verdicts(found), found.results, strict=True)
    for decision, judged, result in decided:
        yield from ("", judged.sentence, decision.sentence)
        yield from (f"! {alarm}" for alarm in judged.alarms)
        yield from (f"  {quiet}" for quiet in (*judged.cautions, *candidates.asides(result)))


def _tables(found: Report) -> Iterator[str]:
    from qfund.features.compare.tables import footprints, libraries, metrics
    from qfund.features.compare.words import libraries as words
    from qfund.features.compare.words import report, statistics

    fidelity = metrics.metric_rows(found)
    if not fidelity:
        yield report.nothing_compared(found)
    elif len(found.results) > _BESIDE:
        yield folded(metrics.metrics_by_precision(found).to_dict("records"))
    else:
        yield folded(_brief(fidelity))
    if fidelity:
        yield statistics.how_sure(found)
    if found.noise:
        yield statistics.noise(found)
    yield from ("", folded(footprints.footprints_text(found).to_dict("records")))
    if found.spec.libraries:
        shown = libraries.libraries_text(found).drop(columns=["Call", "Note", "Problem"], errors="ignore")
        yield from ("", folded(shown.to_dict("records"), keys=2))
        yield from (f"  {sentence}" for sentence in (*words.library_notes(found), *words.library_problems(found)))


def _brief(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Without what a terminal has no room for."""
    return [{column: cell for column, cell in row.items() if column not in ("Better", "Definition")} for row in rows]
